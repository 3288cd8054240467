"""Supervised fine-tuning with trl alone: `bare_sft.py MODEL ROWS OUT [STEPS]`.

It prints `step NUMBER MOMENT` when each step has ended, and after step 1 the seconds since its imports.

What a run of the studio is measured against: the same model, rows and settings.
"""

import sys
import time
from typing import Any

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class _First(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.started = time.time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        print("step", state.global_step, time.time(), flush=True)  # noqa: T201
        if state.global_step == 1:
            print(time.time() - self.started)  # noqa: T201


def main(model: str, rows: str, out: str, steps: str = "2") -> None:
    first = _First()
    parts = load_dataset("json", data_files=rows, split="train").train_test_split(test_size=0.1, seed=0)
    settings = SFTConfig(
        output_dir=out,
        max_steps=int(steps),
        per_device_train_batch_size=2,
        max_length=256,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        loss_type="chunked_nll",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=settings,
        train_dataset=parts["train"],
        eval_dataset=parts["test"],
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[first],
    )
    trainer.evaluate()
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:5])
