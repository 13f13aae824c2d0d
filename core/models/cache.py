"""The response cache, as far as the database holds it. See `core.cache`."""

from django.db import models
from django.utils import timezone


class CacheInvalidation(models.Model):
    """The last invalidation of a tag: written in the transaction of the change that calls for it.

    The row is the truth. The store that the cache uses gets the generation as soon as that is committed and the store
    answers; `store` tells which one has it.
    """

    tag = models.CharField(max_length=100, primary_key=True)
    generation = models.CharField(max_length=16)
    at = models.DateTimeField(default=timezone.now)
    store = models.CharField(max_length=40, blank=True, help_text="Where this generation holds; empty: nowhere yet.")

    def __str__(self) -> str:
        return self.tag


class CacheGeneration(models.Model):
    """The generation of a tag in which entries are made. Like entries, only used on PostgreSQL without Redis.

    These tables survive no crash of PostgreSQL (UNLOGGED); on SQLite they stay empty: there a file of its own is used.
    """

    tag = models.CharField(max_length=100, primary_key=True)
    generation = models.CharField(max_length=16)
    made_at = models.FloatField(help_text="Seconds since 1970.")

    def __str__(self) -> str:
        return self.tag


class CacheEntry(models.Model):
    """Something that took long to make, and the generations of its tags under which it was made."""

    key = models.CharField(max_length=200, primary_key=True)
    generations = models.TextField()
    tags = models.TextField(help_text="JSON.")
    made_at = models.FloatField(help_text="Seconds since 1970.")
    ends_at = models.FloatField()
    value = models.BinaryField()

    class Meta:
        verbose_name_plural = "cache entries"

    def __str__(self) -> str:
        return self.key


class CacheUse(models.Model):
    """How an entry is used. It changes all the time, and must not have the value written again with it."""

    key = models.CharField(max_length=200, primary_key=True)
    size = models.PositiveIntegerField(help_text="Bytes that count against the limit.")
    hits = models.PositiveBigIntegerField(default=0)
    used_at = models.FloatField(help_text="Seconds since 1970.")
    ends_at = models.FloatField()

    class Meta:
        indexes = [
            models.Index(fields=["used_at", "size"], name="cache_least_used"),  # whom to drop, and how much there is
            models.Index(fields=["hits"], name="cache_most_used"),  # what to load first
            models.Index(fields=["ends_at"], name="cache_expiry"),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.hits}"
