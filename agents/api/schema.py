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
