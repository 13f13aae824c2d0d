"""What every row that the API shows has in common."""

import uuid

import uuid_utils.compat
from django.db import models


def uuid7() -> uuid.UUID:
    """Make a key that sorts by time, so that new rows stand together at the end of every index."""
    return uuid_utils.compat.uuid7()


class UUIDModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    class Meta:
        abstract = True
