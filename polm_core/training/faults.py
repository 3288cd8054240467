"""Failures of the machine, told apart from bugs and turned into advice."""

from polm_core.errors import PolmError, ResourceError, is_disk_full

# torch and safetensors wrap the operating system's error in one of their own and keep only its text.
_DISK_TEXTS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "PytorchStreamWriter failed",
    "unexpected pos",  # torch.save, when the first bytes of a file fail already
)
_MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")


def as_polm_error(error: BaseException) -> PolmError | None:
    """The expected failure that `error` is or stands for; None when it is a bug."""
    if isinstance(error, PolmError):
        return error
    if _is_disk(error):
        return ResourceError(
            "The disk is full: a file of the run could not be written.",
            code="resource.disk",
            advice="Free space, save less often (save_steps), or train an adapter, whose checkpoints are small.",
        )
    if _is_memory(error):
        return ResourceError(
            "The memory is full: the model, its gradients and a batch do not fit.",
            code="resource.memory",
            advice="Lower batch_size (raise gradient_accumulation_steps to make up for it) or max_length, turn on "
            "gradient_checkpointing, or train an adapter such as lora.",
        )
    return None


def _is_disk(error: BaseException) -> bool:
    return is_disk_full(error) or any(text in str(error) for text in _DISK_TEXTS)


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, (OSError, RuntimeError)) and any(text in str(error) for text in _MEMORY_TEXTS)
