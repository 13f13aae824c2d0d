"""Who calls, and what they want: everything that is checked before a call becomes a task. Runs in a thread."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http.request import split_domain_port, validate_host
from rest_framework.exceptions import NotAuthenticated, PermissionDenied

from agents.engine import admission, kept_answers, priorities, remembered
from agents.engine.errors import ModelNotAvailable
from agents.engine.kept_answers import Kept
from agents.engine.owners import this_process
from agents.engine.priorities import Priority
from agents.engine.routing import is_same_everywhere
from agents.engine.submit import in_parts, prepare
from agents.gateway import direct, failures
from agents.gateway.calls import BodyRefused, Call, ClientGone, Headers
from agents.gateway.failures import Refusal
from agents.gateway.formats.base import Format, Identity, Wanted
from agents.kinds import KINDS
from agents.kinds.model_call import ModelCall, split
from agents.models import Agent, AgentTask
from agents.models.node import BUILTIN_MODEL
from core import audit, logs
from core.access.authentication import by_bearer
from core.access.limits import requests
from core.access.limits.allowances import Level, levels
from core.access.limits.subjects import subjects_of
from core.access.principal import Principal
from core.access.watch import Holder
from core.api.audit import DENIED
from core.api.idempotency import key_for
from core.api.limits import policies, standing
from core.audit import context
from core.exceptions import InvalidInput
from core.idempotency import IdempotencyKey
from core.models import Verb
from core.net import clients

AGENT_PREFIX = "agent:"
QUICK = "quick"
RESPONSES = "/v1/responses"
CACHE_HEADER = "x-sutazai-cache"
PRIORITY_HEADER = "x-sutazai-priority"

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class ModelUnknown(Exception):
    """There is no such model or agent for this caller. name: as they spell it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class Caller:
    """Who calls. levels: what they may use. headers: what answers tell of their limits."""

    principal: Principal
    levels: tuple[Level, ...]
    headers: Headers

    @property
    def holder(self) -> Holder:
        return Holder.of(self.principal)


@dataclass(frozen=True)
class Order:
    """A call that was let in, and the task that it is going to be, or the tasks.

    is_stored: whether the client may come back for the answer by its id. kept: what answered equal ones before, by the
    tasks' ids.
    """

    caller: Caller
    wanted: Wanted
    submission: admission.Submission
    is_stored: bool
    kept: Mapping[uuid.UUID, Kept]

    def identity(self, submitted: admission.Submitted | None) -> Identity:
        """Name the answer, once it is known whether the call was made before; None where it was kept."""
        task_id = submitted.task_id if submitted and submitted.is_replay else self.submission.task.pk
        return identity_of(task_id, self.wanted.model)

    @property
    def goes_on_alone(self) -> bool:
        """Whether the task goes on when its client leaves."""
        return self.is_stored or bool(self.submission.may_share and self.submission.task.request_key)

    @property
    def tasks(self) -> list[AgentTask]:
        """The tasks that answer the call, in order."""
        return [self.submission.task, *self.submission.parts]

    @property
    def to_make(self) -> admission.Submission | None:
        """What of the call was not answered before."""
        tasks = [task for task in self.tasks if task.pk not in self.kept]
        return replace(self.submission, task=tasks[0], parts=tuple(tasks[1:])) if tasks else None


def guarded(
    call: Call, work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Do work for a call: the audit log learns who calls, and what was refused. Raises Refusal, ModelUnknown."""
    with context.entered(lambda: _origin(call)), logs.belonging_to(logs.request_id, call.request_id):
        try:
            return work(*args, **kwargs)
        except (ModelUnknown, Refusal, BodyRefused, ClientGone):
            raise
        except Exception as error:
            failure, headers = failures.of_error(error)
            if failure.status in DENIED:
                detail = f"{call.method} answered with {failure.status} {failure.code}".strip()
                audit.denied(audit.Subject(name=call.scope["path"]), detail=detail)
            raise Refusal(failure, list(headers.items())) from error


def meta_of(call: Call) -> dict[str, Any]:
    """What the headers say of the client, in the spelling of WSGI; what no trusted proxy says is left out."""
    client = call.scope.get("client")
    meta = {"REMOTE_ADDR": client[0] if client else ""}
    for name in clients.FORWARDED:
        if value := call.headers.get(name.removeprefix("HTTP_").replace("_", "-").lower()):
            meta[name] = value
    clients.forget_untrusted(meta)
    return meta


def _origin(call: Call) -> context.Origin:
    origin = context.Origin(address=clients.address_in(meta_of(call)), request_id=call.request_id)
    if (who := call.principal) is None:
        return origin
    name, credential = who.user.get_username(), who.credential_name
    return replace(origin, actor_id=who.user.pk, actor_name=name, credential=credential)


def enter(call: Call, verb: Verb) -> Caller:
    """Find out who calls, count the call, and check that they may. Raises what `failures.of_error` reads."""
    _check_host(call.headers.get("host", ""))
    found = by_bearer(call.headers.get("authorization", ""))
    if found is None:
        requests.refuse_excess(requests.count_anonymous(clients.address_in(meta_of(call))))
        raise NotAuthenticated("Send an API key: Authorization: Bearer stz_…")
    call.principal = principal = Principal(*found)
    limits = levels(subjects_of(principal.user, principal.api_key))
    quotas = requests.count(limits)
    requests.refuse_excess(quotas)
    if verb not in principal.verbs:
        raise PermissionDenied(f"This takes the right to {verb.value!r}, which your credential does not have.")
    tightest = min(quotas, key=lambda quota: quota.tightness, default=None)
    told = [("RateLimit-Policy", policies(quotas)), ("RateLimit", standing(tightest))] if tightest else []
    return Caller(principal, limits, told)


@lru_cache(maxsize=64)
def _check_host(host: str) -> None:
    """Raise DisallowedHost for a name that is not ours, as Django does."""
    allowed = settings.ALLOWED_HOSTS or ([".localhost", "127.0.0.1", "[::1]"] if settings.DEBUG else [])
    domain, _ = split_domain_port(host)
    if not domain or not validate_host(domain, allowed):
        raise DisallowedHost(f"Invalid HTTP_HOST header: {host[:80]!r}.")


def order(call: Call, form: Format[Any], body: bytes) -> Order:
    """Read a call and make its submission. Raises what `failures.of_error` reads; ModelUnknown."""
    caller = enter(call, Verb.SUBMIT)
    wanted = form.parse(form.dialect.decode(body))
    agent, model = find(caller.principal, wanted.model)
    try:
        submission = _submission(call, caller, wanted, agent, model=model, key=_key_of(call, caller, body))
    except ModelNotAvailable as error:
        raise ModelUnknown(wanted.model) from error
    is_stored = _is_stored(call, wanted)
    # A stream that can be resumed is numbered by its own task's events.
    may_be_kept = submission.idempotency_key is None and not (is_stored and wanted.streams)
    kept = _kept(submission, _wish(call)) if may_be_kept else {}
    return Order(caller, wanted, submission, is_stored, kept)


def _kept(submission: admission.Submission, wish: bool | None) -> dict[uuid.UUID, Kept]:
    """Find what answered equal tasks before, and have the others be found by their like."""
    found = {}
    for task in (submission.task, *submission.parts):
        task.request_key = kept_answers.key_of(task, wish=wish, is_part=bool(submission.parts))
        if task.request_key and (kept := kept_answers.find(task)):
            found[task.pk] = kept
    return found


def _wish(call: Call) -> bool | None:
    """Whether the caller wants an answer that was given before, or never one; None where they do not say."""
    return {"yes": True, "no": False}.get(call.headers.get(CACHE_HEADER, "").lower())


def identity_of(task_id: uuid.UUID, model: str) -> Identity:
    """Name an answer. Its moment is that of the task's id, so that it is the same whenever the answer is written."""
    return Identity(task_id, datetime.fromtimestamp((task_id.int >> 80) / 1000, UTC), model)


def find(principal: Principal, name: str) -> tuple[Agent, str]:
    """Find the agent that a call is for, and the model that it names instead of one. Raises ModelUnknown."""
    if not name.startswith(AGENT_PREFIX):
        agent = direct.agent_for(principal.user)
        if not principal.may_use_agent(agent.name):
            raise ModelUnknown(name)
        return agent, name
    own_name = name.removeprefix(AGENT_PREFIX).removesuffix(":latest")  # Ollama's clients add a tag
    try:
        agent = remembered.agent(principal.user.team_id, own_name)
    except Agent.DoesNotExist:
        raise ModelUnknown(name) from None
    if not principal.may_use_agent(own_name):
        raise ModelUnknown(name)
    return agent, ""


def _is_stored(call: Call, wanted: Wanted) -> bool:
    return call.path == RESPONSES and wanted.shape.get("store", True) is not False


def _key_of(call: Call, caller: Caller, body: bytes) -> IdempotencyKey | None:
    key = call.headers.get("idempotency-key")
    return key_for(str(caller.principal.user.pk), f"POST {call.scope['path']}", key, body) if key else None


def _priority(call: Call, principal: Principal) -> Priority:
    """The class to wait in: what the caller says, else that of answers that somebody waits for."""
    name = call.headers.get(PRIORITY_HEADER)
    if name is None:
        return Priority.INTERACTIVE
    if name.lower() not in priorities.CLASSES:
        raise InvalidInput({PRIORITY_HEADER: [f"One of these is expected: {', '.join(priorities.CLASSES)}."]})
    return priorities.choose(priorities.CLASSES[name.lower()], Priority.INTERACTIVE, is_operator=principal.is_operator)


def _submission(
    call: Call, caller: Caller, wanted: Wanted, agent: Agent, *, model: str, key: IdempotencyKey | None
) -> admission.Submission:
    principal = caller.principal
    own_kind = KINDS[agent.kind]
    kind = KINDS[ModelCall.name] if own_kind.has_sessions or model else own_kind
    submission = prepare(
        agent=agent,
        owner=principal.user,
        api_key=principal.api_key,
        kind=kind,
        model=model,
        input=wanted.call if kind.name == ModelCall.name else kind.input_of(wanted.call),
        allowed_models=principal.model_names,
        priority=_priority(call, principal),
        idempotency_key=key,
        reserved_for=this_process() if settings.GATEWAY_LANE == QUICK else "",
        levels=caller.levels,
    )
    task = submission.task
    if kind.name != ModelCall.name or task.model == BUILTIN_MODEL:
        task.reserved_for = ""  # work of the processor's own is no work for an event loop
    if kind.name == ModelCall.name and _is_stored(call, wanted):  # its client may come back, and expects this shape
        task.input = {**task.input, "client": {"model": wanted.model, "shape": wanted.shape}}
    return _in_parts(submission)


def _in_parts(submission: admission.Submission) -> admission.Submission:
    """Have a long list of texts be embedded by several tasks, which the grant spreads over nodes and slots."""
    task = submission.task
    if task.kind != ModelCall.name:
        return submission
    inputs = split(task.input, settings.EMBEDDING_PART)
    return in_parts(submission, inputs) if len(inputs) > 1 and is_same_everywhere(task.model) else submission
