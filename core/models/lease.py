"""Duties that one process at a time does for all."""

from django.db import models


class Lease(models.Model):
    """The right of one process to a duty (the caretaker's rounds), until a moment."""

    name = models.CharField(max_length=50, primary_key=True)
    holder = models.CharField(max_length=200)
    held_until = models.DateTimeField()
    done_at = models.DateTimeField(null=True, help_text="When the duty was done last; empty: nobody writes that down.")

    def __str__(self) -> str:
        return f"{self.name}: {self.holder}"
