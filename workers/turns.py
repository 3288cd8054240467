"""Light work that rows stand for, carried out one after another by one thread of a process."""

import threading
from collections.abc import Callable
from typing import Any

from workers import presence


def take_turns(
    busy: threading.Lock, waits: Callable[[], bool], claim: Callable[[], Any], carry_out: Callable[[Any], None]
) -> None:
    """Carry out what waits, until nothing does. While another thread of this process is at it, and `busy`, it sees to
    the rest.

    `waits` tells whether there is something, and `claim` takes it; None when another process was faster.
    """
    while not presence.shutting_down.is_set() and waits() and busy.acquire(blocking=False):
        try:
            while not presence.shutting_down.is_set() and (work := claim()) is not None:
                carry_out(work)
        finally:
            busy.release()
