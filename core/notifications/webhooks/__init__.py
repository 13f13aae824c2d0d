"""Telling other programs what happened: an operator's webhooks, signed as Standard Webhooks describe it.

Whoever makes something happen calls `tell`, in its transaction. `sending` sends what is due, `calls` makes one call,
with a body of `contents` and the headers of `signatures`; `targets` is what operators do with a webhook.
Source: https://www.standardwebhooks.com, its specification.
"""

from core.notifications.webhooks.sending import TASK, Message, send_due, tell

__all__ = ["TASK", "Message", "send_due", "tell"]
