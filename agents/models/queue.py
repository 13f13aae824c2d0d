"""What the fair queue remembers."""

from django.db import models


class QueueShare(models.Model):
    """How far a team, or a person within a team, got in the queue of a model: stride scheduling's virtual time.

    A task that waited is granted at a virtual time, and the next one of the same subject comes 1/share later. The
    latest moment among teams, or among the people of a team, is the time now: whoever comes back begins there.
    """

    pk = models.CompositePrimaryKey("model", "subject")
    model = models.CharField(max_length=200)
    subject = models.CharField(max_length=50, help_text='For example "user:" and the id.')
    within = models.CharField(max_length=50, blank=True, help_text="A person's team; empty for teams.")
    passed = models.FloatField(help_text="When its last task that had waited was granted, in virtual time.")

    def __str__(self) -> str:
        return f"{self.subject} for {self.model}: {self.passed:g}"
