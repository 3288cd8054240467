"""The worker's own memory: one heap for all threads."""

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
