"""Who asks, and what they may do: a person, through a credential that may do less than the person."""

from dataclasses import dataclass

from rest_framework.request import Request

from core.models import ApiKey, TokenFamily, User, Verb
from core.models.roles import NAMED_ONLY

Credential = ApiKey | TokenFamily | None
KEY, TOKEN, SESSION = "api-key", "token", "session"


@dataclass(frozen=True)
class Principal:
    """A person and the credential that they came with; None is a browser's sign-in.

    agent_names, model_names: what a key is limited to; empty: nothing is.
    """

    user: User
    credential: Credential = None

    @property
    def kind(self) -> str:
        """The kind of the credential."""
        if self.credential is None:
            return SESSION
        return KEY if isinstance(self.credential, ApiKey) else TOKEN

    @property
    def credential_name(self) -> str:
        """How the audit log names the credential: "api-key stz_<id>", "token", "session"; never the secret itself."""
        return self.credential.credential_name if isinstance(self.credential, ApiKey) else self.kind

    @property
    def api_key(self) -> ApiKey | None:
        return self.credential if isinstance(self.credential, ApiKey) else None

    @property
    def verbs(self) -> frozenset[Verb]:
        scope = self.credential.scope if isinstance(self.credential, ApiKey) else None
        return self.user.verbs - NAMED_ONLY if scope is None else self.user.verbs & scope

    @property
    def is_operator(self) -> bool:
        """Whether every team's work is theirs to see and steer."""
        return Verb.OPERATE in self.verbs

    @property
    def agent_names(self) -> frozenset[str]:
        return frozenset(self.credential.agent_names) if isinstance(self.credential, ApiKey) else frozenset()

    @property
    def model_names(self) -> frozenset[str]:
        return frozenset(self.credential.model_names) if isinstance(self.credential, ApiKey) else frozenset()

    def may_use_agent(self, name: str) -> bool:
        return not self.agent_names or name in self.agent_names


def principal_of(request: Request) -> Principal:
    """Return who asks, in a view whose permissions let in nobody unknown."""
    assert isinstance(request.user, User)
    assert request.auth is None or isinstance(request.auth, ApiKey | TokenFamily)
    return Principal(request.user, request.auth)
