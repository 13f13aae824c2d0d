"""The bell in the header of every page."""

from typing import Any

from django import template

from core.models import User
from core.notifications import inbox

register = template.Library()

MOST = 99  # more are told as "99+"


@register.inclusion_tag("page/bell.html")
def bell(user: Any) -> dict[str, Any]:
    """Draw the bell of somebody who is signed in. For nobody else there is one."""
    unread = inbox.unread(user)[: MOST + 1].count() if isinstance(user, User) else None
    return {"unread": unread, "most": MOST}
