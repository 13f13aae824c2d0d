"""What operators do to the cache: with a row in the audit log, and word whether it holds already."""

from django.db import transaction

from core import audit
from core.cache import answers, invalidations
from core.cache.entries import EVERYTHING, is_tag
from core.exceptions import InvalidInput


def invalidate(tag: str) -> bool:
    """Invalidate what has this tag; False: it will hold as soon as the store is back. Raises InvalidInput."""
    if not is_tag(tag):
        raise InvalidInput({"tag": ["This can be no tag."]})
    with transaction.atomic():
        audit.record("cache.invalidated", target=audit.Subject("cache-tag", tag, tag))
        answers.invalidate(tag)
    return invalidations.hold([tag])


def clear() -> bool:
    """Invalidate everything; False: it will hold as soon as the store is back."""
    with transaction.atomic():
        audit.record("cache.cleared", target=audit.Subject("cache"))
        answers.clear()
    return invalidations.hold([EVERYTHING])
