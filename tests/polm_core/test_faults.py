"""Which failures are the machine's, and which are bugs."""

import errno

import pytest

from polm_core.errors import DataError
from polm_core.training.faults import as_polm_error


def out_of_memory() -> Exception:
    """What torch really raises for memory that no machine has."""
    import torch

    try:
        torch.empty(2**50)
    except RuntimeError as error:
        return error
    raise AssertionError("the machine has a petabyte")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large"),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_with_advice(error: Exception) -> None:
    expected = as_polm_error(error)
    assert expected is not None
    assert expected.code == "resource.disk"
    assert "save_steps" in expected.advice


def test_full_memory_is_told_with_advice() -> None:
    for error in (MemoryError(), out_of_memory()):
        expected = as_polm_error(error)
        assert expected is not None
        assert expected.code == "resource.memory"
        assert "batch_size" in expected.advice


def test_expected_failures_stay_and_bugs_are_none() -> None:
    known = DataError("bad")
    assert as_polm_error(known) is known
    for bug in (KeyError("x"), RuntimeError("shape mismatch"), OSError(errno.ENOENT, "No such file")):
        assert as_polm_error(bug) is None
