"""How the worker's own memory is kept, where the C library lets that be said."""

import ctypes
from collections.abc import Callable

# The numbers of glibc's <malloc.h>.
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
# Below it are the arrays that reading metrics takes all the time: to have them from the system anew costs a sixth more.
_LARGE = 1024 * 1024


def keep_one_heap() -> None:
    """Have all threads allocate from one heap, and give back large pieces as soon as they are freed.

    glibc gives each thread a heap of its own, and never gives back what lies between pieces still in use: with a
    thread for each of 20 runs a worker grew by a third in an hour. Threads that take turns at the interpreter gain
    nothing by heaps of their own. Training processes start apart and are not touched by this.
    """
    if mallopt := _found("mallopt"):
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, 16 * _LARGE)


def give_back() -> None:
    """Return the pages to the system that nothing uses, those between pieces in use too.

    A time when more is read at once, after an outage or on a busy machine, would else cost its memory for ever.
    """
    if trim := _found("malloc_trim"):
        trim(0)


def _found(name: str) -> Callable[..., int] | None:
    """A function of glibc; musl and macOS have heaps of another kind, without it."""
    return getattr(ctypes.CDLL(None), name, None)
