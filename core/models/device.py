"""Where people are signed in."""

from django.conf import settings
from django.db import models

from core.models.base import UUIDModel


class Device(UUIDModel):
    """A browser's sign-in session: from where, with what, and when it was last seen.

    The session itself is Django's; a row whose session has ended is shown nowhere, and housekeeping deletes it.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="devices")
    session_key = models.CharField(max_length=40, unique=True, editable=False)  # serves the note at a request
    address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)
    signed_in_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        verbose_name = "signed-in device"
        ordering = ["-last_seen_at"]

    def __str__(self) -> str:
        return f"{self.browser}, {self.address or 'unknown address'}"

    @property
    def browser(self) -> str:
        """What people call it: "Firefox on Linux"."""
        program = _first(BROWSERS, self.user_agent, "Unknown browser")
        return f"{program} on {_first(SYSTEMS, self.user_agent, 'an unknown system')}"


class KnownDevice(models.Model):
    """A browser or program that a person signed in with before, signed in now or not."""

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="known_devices", db_index=False
    )
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of what it is recognised by.")
    seen_at = models.DateTimeField(help_text="When it last signed in.")

    class Meta:
        constraints = [
            # Serves the look-up at a sign-in.
            models.UniqueConstraint(fields=["person", "fingerprint"], name="one_row_per_known_device"),
        ]

    def __str__(self) -> str:
        return f"{self.fingerprint[:8]} of {self.person}"


# Words of a User-Agent header, the telling ones first: Edge and Opera also say Chrome, and Chrome also says Safari.
BROWSERS = {
    "Edg": "Edge",
    "OPR": "Opera",
    "Firefox": "Firefox",
    "Chrome": "Chrome",
    "Safari": "Safari",
    "curl": "curl",
}
SYSTEMS = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def _first(names: dict[str, str], text: str, otherwise: str) -> str:
    return next((name for word, name in names.items() if word in text), otherwise)
