"""A run's second stage: it goes on from the weights of the first, is held to them, and resumes with them."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from polm_core.blocks import SPLITTING, TrainConfig
from polm_core.errors import ModelError
from polm_core.run_dir import WARMED_UP


class Warmed(NamedTuple):
    """What the first stage ended with: the weights that were trained, and the tokens that they have seen."""

    weights: dict[str, torch.Tensor]
    tokens: int = 0


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of what is trained of the model."""
    return {
        name: parameter.detach().to("cpu", copy=True).contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def put_weights(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """Give a model that was loaded anew what another one of its kind had learned."""
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.data = weights[name].to(parameter.device, copy=True)


def load_warmed(checkpoint: Path | None) -> Warmed:
    """What the second stage of a run was begun with, from one of its checkpoints. Raises `ModelError` without it."""
    if checkpoint is None or not (checkpoint / WARMED_UP).is_file():
        raise ModelError(
            "The checkpoint does not hold the weights that the warm-up ended with, so the run cannot go on from it.",
            advice="Start a new run from the checkpoint's model instead.",
        )
    return Warmed(load_file(checkpoint / WARMED_UP))


def hold_to(trainer: Any, config: TrainConfig) -> None:
    """Have an online trainer hold its model to what that is now: as a copy, or as a second adapter beside lora's."""
    model = trainer.model
    adapters = getattr(model, "peft_config", {})
    small = "default" in adapters and adapters["default"].peft_type.value == "LORA"
    if not small or config.adapter.type in SPLITTING:
        trainer.ref_model = trainer.accelerator.prepare_model(copy.deepcopy(model), evaluation_mode=True)
        return
    if "ref" not in adapters:
        model.add_adapter("ref", adapters["default"])
    for name, parameter in model.named_parameters():
        if ".ref." in name:
            parameter.data.copy_(model.get_parameter(name.replace(".ref.", ".default.")).data)


class KeepsWarmUp(TrainerCallback):
    """Writes what the warm-up ended with into each checkpoint."""

    def __init__(self, warmed: Warmed) -> None:
        self.warmed = warmed

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            save_file(self.warmed.weights, Path(args.output_dir) / f"checkpoint-{state.global_step}" / WARMED_UP)
