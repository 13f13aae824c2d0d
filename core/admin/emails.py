"""What the dashboard says while emails of notifications do not arrive."""

from datetime import timedelta

from django.db.models import Count, Min
from django.urls import reverse
from django.utils import timezone

from core.admin import dashboard
from core.admin.dashboard import Panel, Problem
from core.models import Notification
from core.models.base import uuid7_from
from core.notifications.emails import MAX_TRIES

LOOK_BACK = timedelta(days=1)
HELP = (
    f"Each is tried {MAX_TRIES} times. Look whether the mail server of SUTAZAI_EMAIL_URL takes one, and what it says:"
    " manage.py sendtestemail you@example.com"
)


def problems() -> Panel:
    """Those of a day that were tried in vain, until another one is sent."""
    since = uuid7_from(timezone.now() - LOOK_BACK)
    tried = Notification.objects.filter(pk__gte=since, email_attempts__gt=0, person__is_active=True)
    tried = tried.exclude(person__email="")
    newest = tried.order_by("-pk").values("emailed_at").first()
    if newest is None or newest["emailed_at"]:
        return Panel()
    unsent = tried.filter(emailed_at=None).aggregate(count=Count("pk"), oldest=Min("created_at"))
    title = "An email was not sent" if unsent["count"] == 1 else f"{unsent['count']} emails were not sent"
    url = f"{reverse('admin:core_maintenancerun_changelist')}?job=send_due_emails"
    return Panel([Problem("warning", title, HELP, since=unsent["oldest"], url=url, action="Open the tries")])


dashboard.register("emails", problems, permission="core.view_maintenancerun", position=88)
