"""GGUF, the format of llama.cpp and its kin: written by llama.cpp's own converter, and read again by transformers.

The converter comes with a `gguf` package of its own, so it is installed in a folder of its own and runs as a process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polm_core.errors import DISK_FULL, ModelError, PolmError, ResourceError, is_disk_full

CONVERTER = Path(sys.prefix) / "gguf-converter" / "convert_hf_to_gguf.py"
# What the converter writes itself; the others are made of its f16.
_CONVERTED = ("f16", "q8_0")
# Fewer numbers than a block stay as they are; so do vectors, which are small and matter much.
_BLOCK = 32


def write_gguf(folder: Path, target: Path, kind: str, tell: Callable[[float], None]) -> None:
    """Write the whole model in `folder` as the file `target`, its weights as `kind`: f16, q8_0, q4_1 or q4_0.

    Raises `ModelError` for an architecture or a tokenizer that GGUF has no name for, `ResourceError` when the disk is
    full.
    """
    _check_carries_no_code(folder)
    if kind in _CONVERTED:
        _convert(folder, target, kind)
        return
    half = target.with_name(f"f16-of-{target.name}")
    _convert(folder, half, "f16")
    tell(0.5)
    try:
        quantise(half, target, kind, lambda fraction: tell(0.5 + fraction / 2))
    finally:
        half.unlink(missing_ok=True)


def _check_carries_no_code(folder: Path) -> None:
    """The converter would run Python code that a tokenizer brings along."""
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    if "auto_map" in settings or any(folder.glob("*.py")):
        raise ModelError(
            "The model's tokenizer brings its own Python code, which is not run.",
            code="model.remote_code",
            advice="Take a model whose tokenizer transformers knows.",
        )


def _convert(folder: Path, target: Path, kind: str) -> None:
    if not CONVERTER.is_file():
        raise ModelError(
            "The converter to GGUF is not installed on this worker.",
            code="export.converter",
            advice="Install it with `make install`, or as the Dockerfile does.",
        )
    command = [sys.executable, str(CONVERTER), str(folder), "--outfile", str(target), "--outtype", kind]
    ended = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    sys.stderr.write(ended.stdout)
    if ended.returncode or not target.is_file():
        target.unlink(missing_ok=True)
        raise _refused(folder, ended.returncode, ended.stdout)


def _refused(folder: Path, code: int, said: str) -> PolmError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if "is not supported" in said or "not supported!" in said:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or ["this one"]
        return ModelError(
            f"GGUF has no form for models of the architecture {names[0]}.",
            code="export.architecture",
            advice="Export it as safetensors, which every engine that knows the architecture reads.",
        )
    if "pre-tokenizer was not recognized" in said:
        return ModelError(
            "GGUF has no name for the way this model's tokenizer cuts text, so engines would read prompts wrongly.",
            code="export.tokenizer",
            advice="Export it as safetensors, which carries the tokenizer whole.",
        )
    if is_disk_full(OSError(said)):
        return no_space()
    last = lines[-1][:300] if lines else f"it printed nothing (exit code {code})"
    return ModelError(
        f"The conversion to GGUF failed: {last}",
        code="export.conversion",
        advice="The worker's log says more; export as safetensors meanwhile.",
    )


def no_space() -> ResourceError:
    """A disk that filled up while an export was written."""
    return ResourceError(
        "The disk is full: the export could not be written.",
        code=DISK_FULL,
        advice="Free space on the worker, or take a smaller format; then export again.",
    )


def quantise(source: Path, target: Path, kind: str, tell: Callable[[float], None]) -> None:
    """Rewrite a 16-bit file with matrices in 4 bits; the embedding, which suffers most from it, keeps 8."""
    import numpy as np
    from gguf import (
        GGML_QUANT_VERSION,
        GGMLQuantizationType,
        GGUFReader,
        GGUFValueType,
        GGUFWriter,
        LlamaFileType,
        quants,
    )

    reader = GGUFReader(source)
    wanted, eight = GGMLQuantizationType[kind.upper()], GGMLQuantizationType.Q8_0
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    written_anew = {"general.architecture", "general.file_type", "general.quantization_version"}
    for name, field in reader.fields.items():
        if name not in written_anew and not name.startswith("GGUF."):
            inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{kind.upper()}"])
    for place, tensor in enumerate(reader.tensors):
        numbers = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        form = GGMLQuantizationType.F32
        if numbers.ndim >= 2 and numbers.shape[-1] % _BLOCK == 0:
            form = eight if "token_embd" in tensor.name else wanted
        writer.add_tensor(tensor.name, quants.quantize(numbers, form), raw_dtype=form)
        tell((place + 1) / len(reader.tensors))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path, cut_like: Any) -> tuple[Any, Any, list[int]]:
    """The model (fp32) and tokenizer of a GGUF file, and the tokens at which an engine ends an answer.

    A file names the way text is cut before its vocabulary is looked up, and leaves the cutting to the engine; that of
    the tokenizer `cut_like` is used, which the converter recognised by that name. All else is the file's own.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=torch.float32, local_files_only=True
    )
    tokenizer, ends = read_tokenizer(path, cut_like)
    return model.eval(), tokenizer, ends


def read_tokenizer(path: Path, cut_like: Any) -> tuple[Any, list[int]]:
    """The tokenizer of a GGUF file, and the tokens at which an engine ends an answer; see `read_gguf`."""
    from gguf import GGUFReader
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    fields = GGUFReader(path).fields

    def read(name: str) -> Any:
        field = fields.get(f"tokenizer.{name}")
        return field.contents() if field is not None else None

    named_ends = (read("ggml.eos_token_id"), read("ggml.eot_token_id"))
    ends = sorted({int(end) for end in named_ends if end is not None})
    if read("ggml.model") != "gpt2":
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
        return tokenizer, ends
    tokens, kinds = read("ggml.tokens"), read("ggml.token_type")
    built = json.loads(cut_like.backend_tokenizer.to_str())
    marks = [index for index, kind in enumerate(kinds) if kind in _MARKS]
    known = {added["id"]: added for added in built["added_tokens"]}
    built["added_tokens"] = [_mark(known.get(index, {}), index, tokens[index], kinds[index]) for index in marks]
    built["model"]["vocab"] = {token: index for index, token in enumerate(tokens)}
    built["model"]["merges"] = [merge.split(" ", 1) for merge in read("ggml.merges")]

    def named(role: str) -> str | None:
        index = read(f"ggml.{role}_token_id")
        return tokens[index] if index is not None else None

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(built)),
        bos_token=named("bos"),
        eos_token=named("eos"),
        pad_token=named("padding"),
        unk_token=named("unknown"),
        chat_template=read("chat_template"),
        clean_up_tokenization_spaces=False,
    )
    return tokenizer, ends


# GGUF's types of tokens that stand for themselves in text: those that steer, and those that a user defined.
_STEERS, _DEFINED = 3, 4
_MARKS = (_STEERS, _DEFINED)


def _mark(known: dict[str, Any], index: int, token: str, kind: int) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {**plain, **known, "id": index, "content": token, "special": kind == _STEERS}
