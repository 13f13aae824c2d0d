"""Real PostgreSQL, Redis and RabbitMQ as private, throw-away servers, for tests, benchmarks and chaos.

    python -m tests.services run -- <command>    the command finds them in its environment
    python -m tests.services up                  until Ctrl-C; prints the environment

In Python: `with running_services() as services: services.redis.url`.
"""

from tests.services.group import SERVICE_VARIABLES, Services, running_services
from tests.services.server import Server

__all__ = ["SERVICE_VARIABLES", "Server", "Services", "running_services"]
