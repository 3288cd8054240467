"""`python -m webapp.studio.alive [role]`: whether a role's programs run on this machine, for health checks."""

import http.client
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from webapp.studio.identity import Identity

HEALTH_PATH = "/api/v1/health"


def alive(state: Path) -> bool:
    """Whether every program recorded in a supervisor's `state` is there, and its web process, if any, answers."""
    records = [Identity.read(path) for path in state.glob("*.json")]
    if not records or not all(record is not None and record.alive() for record in records):
        return False
    try:
        address = urlsplit(json.loads((state / "lock").read_text())["address"])
    except (OSError, ValueError, KeyError):  # it has only just started
        return False
    return not address.port or status(address.hostname or "localhost", address.port) < http.client.INTERNAL_SERVER_ERROR


def status(host: str, port: int, name: str = "localhost") -> int:
    """The HTTP status with which the health check is answered to a client that calls the server `name`."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", HEALTH_PATH, headers={"Host": name})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return http.client.SERVICE_UNAVAILABLE
    finally:
        connection.close()


if __name__ == "__main__":
    role = sys.argv[1] if len(sys.argv) > 1 else "all"
    sys.exit(not alive(Path(os.environ.get("POLM_VAR", "var")) / "studio" / role))
