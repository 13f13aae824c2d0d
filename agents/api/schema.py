"""Parameters that several addresses share, for the OpenAPI document."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description=(
        "Any text of yours, 1 to 255 printable ASCII characters. The same request with the same key makes nothing "
        "twice: it is answered with the first one's object and the header `Idempotent-Replay: true`."
    ),
)

# One server-sent event, as a client's parser gives it.
EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {
            "type": "string",
            "description": (
                "The event's number within its task: 1, 2, 3, … A `state` without one tells where the task stands in "
                "its queue at the moment; it is not told again."
            ),
        },
        "event": {"type": "string", "enum": ["state", "delta", "done", "error"]},
        "data": {"type": "string", "description": "JSON."},
    },
}
