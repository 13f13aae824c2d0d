"""Renderers of views that may answer with a stream."""

from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer


class EventStreamRenderer(JSONRenderer):
    """Stands for text/event-stream where formats are negotiated; what it writes itself are problems, in JSON."""

    media_type = "text/event-stream"
    format = "events"


# The first is for clients that accept anything.
STREAMING_RENDERERS = [JSONRenderer, EventStreamRenderer, BrowsableAPIRenderer]
FOLLOWING_RENDERERS = [EventStreamRenderer, JSONRenderer, BrowsableAPIRenderer]
