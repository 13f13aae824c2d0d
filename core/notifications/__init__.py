"""Telling people what happened to what is theirs: in the product, and by email where that is configured.

Events are declared by `register`, where Django starts; whoever makes one happen calls `notify`, in its transaction.
`preferences` knows who wants to be told how, `inbox` who was told what, `emails` sends what is due, `overdue` what no
worker sent in time. `webhooks` tells other programs, where operators want that: what concerns them goes to
`webhooks.tell` as well.
"""

from core.notifications import webhooks
from core.notifications.events import Event, register
from core.notifications.inbox import News, notify

__all__ = ["Event", "News", "notify", "register", "webhooks"]
