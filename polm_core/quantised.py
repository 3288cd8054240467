"""What a quantised checkpoint is, read from its files alone: neither torch nor the library that made it is needed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TORCHAO_DATA = "._weight_qdata"
_TORCHAO_PARTS = ("._weight_scale", "._weight_zero_point", "._weight_scale_and_zero", "._weight_act_pre_scale")
_BITSANDBYTES_STATE = ".quant_state.bitsandbytes__"
_MAX_STATE = 100_000


def quantisation_of(config: Mapping[str, Any]) -> str:
    """What the weights behind a `config.json` are quantised to, `nf4` or `int8` or as their library calls it; empty
    when they are not."""
    found = config.get("quantization_config")
    if not isinstance(found, dict):
        return ""
    method = str(found.get("quant_method") or "an unknown scheme")
    if method == "bitsandbytes":
        return str(found.get("bnb_4bit_quant_type") or "4 bits") if found.get("load_in_4bit") else "int8"
    if method == "torchao":
        kind = json.dumps(found.get("quant_type"))
        return next((name for name in ("int8", "int4") if f"{name.title()}WeightOnly" in kind), method)
    return method


def weight_shapes(path: Path, header: Mapping[str, Any]) -> dict[str, list[int]]:
    """The shape of each weight of a safetensors file as it is computed with, whatever it is packed into.

    `header` is the file's own, by the names of its tensors. Raises `KeyError`, `TypeError` or `ValueError` for what no
    library has written.
    """
    shapes: dict[str, list[int]] = {}
    for name, entry in header.items():
        weight, _, packed = name.partition(_BITSANDBYTES_STATE)
        if packed:
            shapes[weight] = _bitsandbytes_shape(path, entry)
        elif name.endswith(_TORCHAO_DATA):
            shapes[f"{name.removesuffix(_TORCHAO_DATA)}.weight"] = entry["shape"]
        elif name != "__metadata__" and not name.endswith(_TORCHAO_PARTS) and not _is_part(name):
            shapes.setdefault(name, entry["shape"])
    return shapes


def _is_part(name: str) -> bool:
    """Whether a tensor holds what bitsandbytes needs to unpack a weight."""
    return ".weight." in name


def _bitsandbytes_shape(path: Path, entry: Mapping[str, Any]) -> list[int]:
    """The shape that bitsandbytes keeps, as JSON in a tensor of bytes."""
    start, end = entry["data_offsets"]
    if end - start > _MAX_STATE:
        raise ValueError("too long a state")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        file.seek(8 + length + start)
        state: dict[str, Any] = json.loads(file.read(end - start))
    return [int(size) for size in state["shape"]]
