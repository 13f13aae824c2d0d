"""What the gateway answers, ahead of Django."""

from core.ops.endpoints import Endpoint, register

register(
    Endpoint("/ollama"),
    Endpoint("/ollama/api/ps", takes_key=True),
    Endpoint("/ollama/api/tags", takes_key=True),
    Endpoint("/ollama/api/version", takes_key=True),
    Endpoint("/v1/models", takes_key=True),
)
