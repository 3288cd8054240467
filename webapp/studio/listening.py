"""The web process's address: whether it is free, and whether it answers."""

import errno
import http.client
import socket

from django.conf import settings

from webapp.studio.alive import status
from webapp.studio.plan import CannotStart

EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to


def address(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    name = "localhost" if host in EVERY_ADDRESS else host
    scheme = "https" if settings.HTTPS else "http"
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0, provided that a server can listen there. Raises `CannotStart` when none can."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise CannotStart(_advice(host, port, error)) from error


def answers_health(host: str, port: int) -> bool:
    """Whether the web process on this machine answers its health check."""
    reachable = "localhost" if host in EVERY_ADDRESS else host
    # Behind HTTPS, plain requests are redirected: that is an answer too.
    return status(reachable, port, _allowed_host()) < http.client.BAD_REQUEST


def _allowed_host() -> str:
    """A name under which Django serves, whatever the machine's own name is."""
    names = [name.removeprefix(".") for name in settings.ALLOWED_HOSTS if name != "*"]
    return names[0] if names else "localhost"


def _advice(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use by another program. Choose another: make run PORT={port + 1}"
    if error.errno == errno.EACCES:
        return f"Port {port} needs privileges. Choose one above 1023: make run PORT=8000"
    return f"Cannot listen on {host} ({error.strerror}). HOST must be an address of this machine, such as 127.0.0.1."
