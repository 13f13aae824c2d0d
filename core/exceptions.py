"""Refusals that a caller may see. `core.api.problems` turns them into problem documents."""

from collections.abc import Mapping


class Refused(Exception):
    """A request that is understood and refused. A subclass per reason; its text is for the caller to read."""

    status = 400
    code = "refused"
    title = "The request was refused"
    retry_after_seconds: int | None = None

    def __init__(self, detail: str = "") -> None:
        self.detail = detail or self.title
        super().__init__(self.detail)


class InvalidInput(Refused):
    """What was sent does not have the right shape or size. `errors` names each field and what is wrong with it."""

    status = 422
    code = "invalid-input"
    title = "The input is not valid"

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{field}: {' '.join(texts)}" for field, texts in errors.items()))


class IdempotencyConflict(Refused):
    """The same Idempotency-Key came with another body. Use a new key for a new request."""

    status = 422
    code = "idempotency-key-reused"
    title = "This Idempotency-Key was used for another request"
