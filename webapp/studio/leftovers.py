"""Training processes and the fork server: they outlive a worker on purpose, so stopping the studio looks for them."""

from pathlib import Path

from webapp.studio.embedded import forkserver_socket
from webapp.studio.identity import Hurry, Identity, never, stop_all
from webapp.studio.server import remove_sockets

# The directories in which each child of a worker has one of its own.
WORKPLACES = ("runs", "preflights", "cache/prepare")
# Asked to end, a training process writes a checkpoint first.
CHECKPOINT_SECONDS = 20.0
FORK_SERVER_SECONDS = 5.0


def live_children(var: Path) -> list[Identity]:
    """The processes that workers have recorded as `child.json` in their working directories and that still run."""
    records = (path for place in WORKPLACES for path in (var / place).glob("*/child.json"))
    return [child for child in map(Identity.read, records) if child is not None and child.alive()]


def stop_leftovers(var: Path, hurry: Hurry = never) -> None:
    """End the fork server, so that no more are born, and then the training processes, with time for a checkpoint."""
    record = var / "forkserver.pid"
    fork_server = Identity.read(record)
    if fork_server is not None:
        stop_all([fork_server], FORK_SERVER_SECONDS, hurry=hurry)
    stop_all(live_children(var), CHECKPOINT_SECONDS, hurry=hurry)
    record.unlink(missing_ok=True)
    remove_sockets(forkserver_socket(var).parent, var)
