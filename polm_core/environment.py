"""Process-wide settings of the libraries a run uses."""

import ctypes
import logging
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    # Threads that libraries start when they are imported do not survive a later fork.
    "TOKENIZERS_PARALLELISM": "false",
    "OPENBLAS_NUM_THREADS": "1",
}


def set_environment() -> None:
    """Keep libraries from calling home, drawing progress bars into logs, and mixing threads with forks.

    To be called before any of them is imported.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # It warns of an optional kernel package that is not wanted: its kernels are downloaded code.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however that ends (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def hide_progress_bars() -> None:
    """Keep transformers' bars for loading and saving out of logs, which no environment variable does."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
