"""The worker's own memory: one heap for all threads, which gives back what is free in its midst."""

import subprocess
import sys

import pytest

# Each thread holds something small, which malloc takes from the heap of that thread; then glibc lists its heaps.
_HEAPS = """
import ctypes, threading
from workers.memory import keep_one_heap
if {keep}:
    keep_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
inside = threading.Barrier(4)
def allocate():
    inside.wait()
    libc.malloc(1000)
    inside.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
"""


def heaps(*, keep: bool) -> int:
    script = _HEAPS.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has a heap for each thread")
def test_all_threads_of_a_worker_share_one_heap() -> None:
    assert heaps(keep=False) > 1
    assert heaps(keep=True) == 1


# Of 60 MB in small pieces one in fifty is kept: what is free lies between these.
_SCATTERED = """
import ctypes, psutil
from workers.memory import give_back, keep_one_heap
keep_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def megabytes():
    return psutil.Process().memory_info().rss / 2**20
before = megabytes()
pieces = [libc.malloc(2000) for _ in range(30_000)]
for piece in pieces:
    ctypes.memset(piece, 1, 2000)
for place, piece in enumerate(pieces):
    if place % 50:
        libc.free(piece)
freed = megabytes()
give_back()
print(freed - before, megabytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked to")
def test_what_is_free_between_pieces_in_use_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _SCATTERED], capture_output=True, text=True, check=True, timeout=60)
    held, kept = map(float, done.stdout.split())
    assert held > 50, "freeing alone is to keep it, or there is nothing to test"
    assert kept < 10
