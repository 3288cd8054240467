"""P-tuning that resumes: peft saves the virtual tokens alone, not the network that makes them while training."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from polm_core.run_dir import PROMPT_ENCODER


class PromptEncoderCallback(TrainerCallback):
    """Keeps the network beside each checkpoint; `resume` is the checkpoint that the run goes on from."""

    def __init__(self, resume: str | None) -> None:
        self.resume = resume

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        from safetensors.torch import load_file

        if self.resume is not None:
            more["model"].prompt_encoder.load_state_dict(load_file(Path(self.resume) / PROMPT_ENCODER))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        from safetensors.torch import save_file

        if state.is_world_process_zero:
            draft = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_file(more["model"].prompt_encoder.state_dict(), draft / PROMPT_ENCODER)
