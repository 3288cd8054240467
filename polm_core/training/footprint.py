"""What a model takes up, on disk and in memory, and how fast it reads and writes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from polm_core.context import ModelSpec

_ROUNDS = 3
_WRITTEN = 16
_READ = 256


def disk_bytes(model: ModelSpec) -> int:
    """What the weights of a model, and of an adapter that it comes with, add up to on this disk."""
    return sum(path.stat().st_size for folder in _folders(model) for path in folder.glob("*.safetensors"))


def _folders(model: ModelSpec) -> Iterator[Path]:
    if model.path is not None:
        yield model.path
    else:
        from huggingface_hub import snapshot_download

        # By now it is there: it was loaded from there.
        yield Path(
            snapshot_download(
                str(model.hub_id), revision=model.revision, allow_patterns="*.safetensors", local_files_only=True
            )
        )
    if model.adapter is not None:
        yield model.adapter


def memory_bytes(model: Any) -> int:
    """What the weights of a loaded model take up, what is needed to unpack them included; shared ones count once."""
    seen: dict[int, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        for part in _parts(tensor):
            seen[part.data_ptr()] = part.numel() * part.element_size()
    return sum(seen.values())


def _parts(tensor: Any) -> Iterator[Any]:
    """The plain tensors that a packed one is made of."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from _parts(getattr(tensor, name))
        return
    yield tensor
    state = getattr(tensor, "quant_state", None)
    while state is not None:
        yield from (part for part in (state.absmax, state.code, state.offset) if part is not None)
        state = state.state2


def speeds(models: Mapping[str, Any], ids: Sequence[int], check: Callable[[], None]) -> dict[str, dict[str, float]]:
    """For each model how many tokens a second it reads and writes, one text at a time; `ids` is what it reads.

    `check` is called between two turns.

    The models take turns, so that whatever else the machine does slows all of them alike, and the median of the rounds
    counts. The first round, which warms up, does not.
    """
    import torch

    found: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    with torch.no_grad():
        for _ in range(_ROUNDS + 1):
            for name, model in models.items():
                check()
                found[name].append(_read_and_write(model, list(ids)[:_READ]))
    return {
        name: {
            "speed/prefill_tokens_per_second": median(read for read, _ in rounds[1:]),
            "speed/tokens_per_second": median(written for _, written in rounds[1:]),
        }
        for name, rounds in found.items()
    }


def _read_and_write(model: Any, ids: list[int]) -> tuple[float, float]:
    import torch

    text = torch.tensor([ids], device=model.device)
    began = time.perf_counter()
    output = model(input_ids=text, use_cache=True, logits_to_keep=1)
    token = output.logits[:, -1:].argmax(-1)
    # Reading an element waits for a device that computes in the background.
    token.item()
    read = time.perf_counter()
    for _ in range(_WRITTEN):
        output = model(input_ids=token, past_key_values=output.past_key_values, use_cache=True)
        token = output.logits[:, -1:].argmax(-1)
    token.item()
    return len(ids) / (read - began), _WRITTEN / (time.perf_counter() - read)
