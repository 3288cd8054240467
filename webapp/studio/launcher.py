"""Everything one machine runs, as one thing that starts and stops: what `manage.py studio` is made of."""

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from django.conf import settings

from webapp.studio.database import prepare_database
from webapp.studio.identity import stop_all
from webapp.studio.leftovers import stop_leftovers
from webapp.studio.listening import address, answers_health, free_port
from webapp.studio.locks import Lock, LockHeld
from webapp.studio.logs import tail
from webapp.studio.plan import CannotStart, Plan, embedded_servers, programs, state_directory
from webapp.studio.processes import Processes, Say, stop_orphans

WATCH_SECONDS = 0.25
HEALTH_SECONDS = 60.0
ORPHAN_SECONDS = 10.0


class Studio:
    """The whole studio of one machine.

    `say` gets lines for the console; `ready` is told the address once the web process answers (empty without one).
    """

    def __init__(self, plan: Plan, *, say: Say, ready: Callable[[str], None]) -> None:
        """Raises `CannotStart` when the plan needs services that are not configured."""
        self._plan = plan
        self._say = say
        self._ready = ready
        self._var = Path(settings.VAR_DIR)
        self._state = state_directory(self._var, plan.role)
        self._servers = embedded_servers(plan, self._var)
        self._processes: Processes | None = None
        self._stops_asked = 0

    def ask_to_stop(self) -> None:
        """Stop soon; asked again, stop without waiting for anyone. Fit for signal handlers."""
        self._stops_asked += 1

    def run(self) -> None:
        """Start everything, keep it running until asked to stop, and stop it with nothing left behind.

        Raises `CannotStart`, `ServiceError` or `ProgramGaveUp`; by then, what was started is stopped.
        """
        lock = self._take_lock()
        try:
            self._start(lock)
            while not self._stopping():
                self._watch()
        finally:
            self._stop()
            lock.release()

    def _stopping(self) -> bool:
        return self._stops_asked > 0

    def _hurry(self) -> bool:
        return self._stops_asked > 1

    def _take_lock(self) -> Lock:
        try:
            return Lock(self._state / "lock")
        except LockHeld as held:
            raise CannotStart(_already_running(held.note, self._var)) from None

    def _start(self, lock: Lock) -> None:
        stop_orphans(self._state, ORPHAN_SECONDS, self._hurry)
        port = free_port(self._plan.host, self._plan.port) if self._plan.role.serves else 0
        url = address(self._plan.host, port) if self._plan.role.serves else ""
        lock.note(json.dumps({"pid": os.getpid(), "address": url}))
        steps: list[Callable[[], None]] = [
            self._start_servers,
            prepare_database,
            lambda: self._start_processes(port),
            lambda: self._await_health(port),
            lambda: self._ready(url),
        ]
        for step in steps:
            if self._stopping():
                return
            step()

    def _start_servers(self) -> None:
        for server in self._servers:
            server.ensure()

    def _start_processes(self, port: int) -> None:
        found = programs(self._plan, port)
        self._processes = Processes(found, state=self._state, logs=self._var / "logs", say=self._say)
        self._processes.start()

    def _await_health(self, port: int) -> None:
        deadline = time.monotonic() + HEALTH_SECONDS
        while self._plan.role.serves and not self._stopping() and not answers_health(self._plan.host, port):
            self._watch()
            if time.monotonic() > deadline:
                log = self._var / "logs" / "web.log"
                raise CannotStart(f"The web process does not answer. The end of {log}:\n{tail(log)}")

    def _watch(self) -> None:
        for server in self._servers:
            if server.owned and not server.alive():
                self._say(f"{server.title}: ended; starting it again")
                server.start()
        if self._processes is not None:
            self._processes.watch()
        time.sleep(WATCH_SECONDS)

    def _stop(self) -> None:
        """Stop in the reverse order of the list below; what fails to stop does not save the rest."""
        with ExitStack() as stack:
            for server in self._servers:
                stack.callback(server.stop)
            if self._processes is not None:
                # A worker that has to be killed cannot clear up after itself.
                stack.callback(stop_all, self._processes.descendants(), 0)
            if self._plan.role.works:
                stack.callback(stop_leftovers, self._var, self._hurry)
            if self._processes is not None:
                self._say("Stopping. Ctrl-C again does not wait for checkpoints.")
                stack.callback(self._processes.stop, self._hurry)


def _already_running(note: str, var: Path) -> str:
    try:
        holder = json.loads(note)
    except ValueError:  # it has only just started
        holder = {}
    where = f" at {holder['address']}" if holder.get("address") else ""
    who = f" (process {holder['pid']})" if holder.get("pid") else ""
    return f"The studio of {var} already runs{where}{who}. Stop it there, or set POLM_VAR to another directory."
