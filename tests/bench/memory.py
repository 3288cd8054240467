"""Memory at rest of a real studio's processes: the web process and the worker's supervisor, beside the fork server."""

import os
import time

import psutil

from tests.bench.rows import Row
from tests.bench.studio import running_studio

SETTLE_SECONDS = 20
BAR_WEB, BAR_SUPERVISOR = 150, 200
MIB = 2**20


def measure(short: bool) -> list[Row]:
    with running_studio() as studio:
        for path in ("/methods", "/runs", "/models", "/datasets"):  # at rest, but not unused
            assert studio.api.get(path).status_code == 200
        time.sleep(1 if short else SETTLE_SECONDS)
        assert studio.process is not None
        sizes = {" ".join(one.cmdline()): one.memory_info().rss / MIB for one in _family(studio.process.pid)}
    web = max(size for name, size in sizes.items() if "uvicorn" in name)
    supervisor = max(size for name, size in sizes.items() if "celery" in name and "-Q runs" in name)
    others = ", ".join(f"{_short(name)} {size:.0f}" for name, size in sorted(sizes.items()) if "postgres" not in name)
    return [
        Row("Web process at rest", web, "MiB", f"under {BAR_WEB}", web < BAR_WEB, f"All processes: {others}."),
        Row("Worker's supervisor at rest", supervisor, "MiB", f"under {BAR_SUPERVISOR}", supervisor < BAR_SUPERVISOR),
    ]


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _short(command: str) -> str:
    return " ".join(part.rpartition(os.sep)[2] for part in command.split()[:8])
