"""The servers themselves, as Debian packages them."""

import signal
import socket
from pathlib import Path

import psycopg

from tests.services.packages import program
from tests.services.server import Server, accepts_connections, free_port


class PostgreSQL(Server):
    name = "postgresql"
    system_user = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions, leaves no recovery for the next start

    @property
    def url(self) -> str:
        return f"postgres://sutazai@127.0.0.1:{self.port}/sutazai"

    def prepare(self) -> None:
        options = ["--auth=trust", "--username=sutazai", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        self.run(self._program("initdb"), *options, "--pgdata", self.folder / "data")

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "max_connections": 100,
        }
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._program("postgres")), "-D", str(self.folder / "data"), *arguments]

    def is_ready(self) -> bool:
        """Answer whether it takes queries; makes the database on the first time."""
        try:
            with psycopg.connect(self._url_of("postgres"), autocommit=True) as connection:
                names = connection.execute("SELECT datname FROM pg_database").fetchall()
                if ("sutazai",) not in names:
                    connection.execute("CREATE DATABASE sutazai")
        except psycopg.OperationalError:
            return False
        return True

    def _url_of(self, database: str) -> str:
        return f"postgres://sutazai@127.0.0.1:{self.port}/{database}"

    def _program(self, name: str) -> Path:
        return program("usr/lib/postgresql/*/bin/postgres").with_name(name)


class Redis(Server):
    name = "redis"
    system_user = "redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no"),
        ]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


class PortMapper(Server):
    """Erlang's epmd, which RabbitMQ needs and would otherwise start as a daemon that outlives it."""

    name = "epmd"
    system_user = "rabbitmq"

    def command(self) -> list[str]:
        return ["epmd", "-port", str(self.port), "-address", "127.0.0.1"]

    def is_ready(self) -> bool:
        return accepts_connections(self.port)


class RabbitMQ(Server):
    name = "rabbitmq"
    system_user = "rabbitmq"

    def __init__(self, parent_folder: Path) -> None:
        super().__init__(parent_folder)
        self._distribution_port = free_port()
        self._port_mapper = PortMapper(parent_folder)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def prepare(self) -> None:
        (self.folder / "rabbitmq.conf").write_text("loopback_users.guest = true\nlog.console.level = warning\n")
        (self.folder / "enabled_plugins").write_text("[].\n")

    def command(self) -> list[str]:
        return [str(program("usr/lib/rabbitmq/bin/rabbitmq-server"))]

    def environment(self) -> dict[str, str]:
        return {
            # The script becomes the server, instead of waiting for it; then signals reach the server.
            "RUNNING_UNDER_SYSTEMD": "1",
            "ERL_EPMD_PORT": str(self._port_mapper.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"sutazai{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
        }

    def start(self) -> None:
        if self._port_mapper.pid is None:
            self._port_mapper.start()
            self._port_mapper.wait_until_ready()
        super().start()

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.settimeout(2)
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"  # a method frame: connection.start
        except OSError:
            return False

    def stop(self) -> None:
        super().stop()
        self._port_mapper.stop()

    def kill(self) -> None:
        super().kill()
        self._port_mapper.kill()
