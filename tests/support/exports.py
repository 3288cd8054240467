"""A base model with a LoRA adapter, small enough to export in a test, and its checkpoint in the artifact store.

The tokenizer is the starter's: GGUF knows tokenizers by how they cut text, and has no name for a made-up one.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from polm_core.run_dir import Manifest, RunDir
from tests.support.checkpoints import store
from webapp import artifacts
from webapp.accounts.models import Team
from webapp.ids import new_id
from webapp.registry.models import BaseModel, Checkpoint
from webapp.registry.services import checkpoint_create


def build_pair(folder: Path) -> Path:
    """Write `base` and `adapter` into `folder` and return it; the adapter changes every layer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from polm_core.starter import gguf_path, starter_tokenizer

    tokenizer = starter_tokenizer(gguf_path())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder / "adapter")
    tokenizer.save_pretrained(folder / "adapter")
    return folder


def build_elsewhere(call: str) -> None:
    """Evaluate a call of this package in another process, so that this one needs no torch."""
    names = "from pathlib import Path; from tests.support.exports import *; from tests.support.tiny import *"
    subprocess.run([sys.executable, "-c", f"{names}; {call}"], check=True, stderr=subprocess.PIPE)


def checkpoint_of(team: Team, folder: Path, kind: str, base_model: BaseModel, *, method: str = "sft") -> Checkpoint:
    """A checkpoint of `team` that holds the files of `folder`, stored and recorded as a run does."""
    key = f"runs/{new_id()}/step-1"
    with tempfile.TemporaryDirectory() as root:
        run_dir = RunDir(Path(root))
        run_dir.create()
        target = run_dir.checkpoint(1)
        target.mkdir(parents=True)
        for path in folder.iterdir():
            if path.is_file():
                (target / path.name).write_bytes(path.read_bytes())
        manifest = run_dir.seal_checkpoint(
            Manifest(step=1, kind=kind, method=method, base_model="base", metrics={}, trainer_state=[])
        )
        store(Path(root), 1, manifest, key)
    return checkpoint_create(
        team_id=team.pk,
        name=f"{folder.name} @ 1",
        key=key,
        manifest=manifest,
        sha256=artifacts.digest(f"{key}/manifest.json"),
        base_model=base_model,
    )
