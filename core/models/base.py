"""What every row that the API shows has in common."""

import uuid
from datetime import datetime

import uuid_utils.compat
from django.db import models


def uuid7() -> uuid.UUID:
    """Make a key that sorts by time, so that new rows stand together at the end of every index."""
    return uuid_utils.compat.uuid7()


def uuid7_from(moment: datetime) -> uuid.UUID:
    """The smallest key of a moment: keys made since then are not below it. Source: RFC 9562, section 5.7."""
    milliseconds = int(moment.timestamp() * 1000)
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62)


class UUIDModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    class Meta:
        abstract = True
