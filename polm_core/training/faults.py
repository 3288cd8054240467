"""Failures of the machine, told apart from bugs and turned into advice."""

from polm_core.errors import PolmError, ResourceError, disk_full, is_disk_full

OUT_OF_MEMORY = "resource.memory"

_MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")


def as_polm_error(error: BaseException) -> PolmError | None:
    """The expected failure that `error` is or stands for; None when it is a bug."""
    if isinstance(error, PolmError):
        return error
    if is_disk_full(error):
        return disk_full("The disk is full: a file of the run could not be written.")
    if _is_memory(error):
        return ResourceError(
            "The memory is full: the model, its gradients and a batch do not fit.",
            code=OUT_OF_MEMORY,
            advice="Lower batch_size (raise gradient_accumulation_steps to make up for it) or max_length, turn on "
            "gradient_checkpointing, or train an adapter such as lora.",
        )
    return None


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, (OSError, RuntimeError)) and any(text in str(error) for text in _MEMORY_TEXTS)
