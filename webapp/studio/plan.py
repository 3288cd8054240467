"""What one machine is to run: its role, its embedded services, its programs."""

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from django.conf import settings

from webapp.studio.embedded import default_broker_url, default_database_url
from webapp.studio.postgres import Postgres
from webapp.studio.processes import Program
from webapp.studio.server import EmbeddedServer
from webapp.studio.valkey import Valkey

QUEUES = "runs,light"
# Light work waits for child processes most of its time. A training worker needs a thread for each run that it
# supervises, and some for wake-ups that find nothing to do.
THREADS = {"runs": 32, "light": 8}


class CannotStart(Exception):
    """The studio cannot start; the message says why and what to do."""


class Role(StrEnum):
    """What this machine runs: everything, or one part of a deployment on several machines."""

    ALL = "all"
    WEB = "web"
    WORKER = "worker"
    SCHEDULER = "scheduler"

    @property
    def serves(self) -> bool:
        """Whether there is a web process."""
        return self in {Role.ALL, Role.WEB}

    @property
    def works(self) -> bool:
        """Whether there are workers."""
        return self in {Role.ALL, Role.WORKER}

    @property
    def schedules(self) -> bool:
        """Whether the scheduler is here; a deployment has exactly one."""
        return self in {Role.ALL, Role.SCHEDULER}


@dataclass(frozen=True)
class Plan:
    """What to run, and where the web process listens. `port` 0 stands for a free one."""

    role: Role = Role.ALL
    embedded: bool = True
    host: str = "127.0.0.1"
    port: int = 8000


def state_directory(var: Path, role: Role) -> Path:
    """Where the supervisor of a role keeps its lock and the records of its programs."""
    return var / "studio" / role


def embedded_servers(plan: Plan, var: Path) -> list[EmbeddedServer]:
    """The services to start ourselves: those for which no real server is configured."""
    missing: dict[str, EmbeddedServer] = {}
    if default_database_url(var) == settings.DATABASE_URL:
        missing["DATABASE_URL"] = Postgres(var)
    if default_broker_url(var) == settings.BROKER_URL:
        missing["BROKER_URL"] = Valkey(var)
    if missing and not plan.embedded:
        raise CannotStart(f"Without embedded services, set {' and '.join(missing)} to the real ones.")
    return list(missing.values())


def programs(plan: Plan, port: int) -> list[Program]:
    """The programs of a role. Web process and scheduler stop first, so that the workers get no new work meanwhile."""
    found = []
    if plan.role.serves:
        found.append(_python("web", 0, *_web(plan.host, port)))
    if plan.role.schedules:
        found.append(_python("scheduler", 0, *_celery("beat")))
    if plan.role.works:
        queues = [name.strip() for name in os.environ.get("POLM_WORKER_QUEUES", QUEUES).split(",")]
        found += [_python(f"worker-{queue}", 1, *_worker(queue)) for queue in queues if queue]
    return found


def _python(name: str, stage: int, *arguments: str) -> Program:
    return Program(name, [sys.executable, "-m", *arguments], stage=stage, cwd=settings.BASE_DIR)


def _web(host: str, port: int) -> list[str]:
    # No access log: sign-in and share links carry their secret in the path.
    listen = ["--host", host, "--port", str(port)]
    return ["uvicorn", "webapp.asgi:application", *listen, "--timeout-graceful-shutdown", "3", "--no-access-log"]


def _worker(queue: str) -> list[str]:
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    return _celery(
        "worker", "-Q", queue, "-n", f"{queue}@%h", "-P", "threads", "-c", str(THREADS.get(queue, 8)), *quiet
    )


def _celery(*arguments: str) -> list[str]:
    return ["celery", "-A", "workers.app:app", *arguments, "--loglevel", "INFO"]
