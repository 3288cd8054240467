"""The trainer's settings from ours."""

from pathlib import Path
from typing import Any

from polm_core.blocks import TrainConfig
from polm_core.run_dir import RunDir
from polm_core.training.loading import compute_precision, has_accelerator


def draft_dir(run_dir: RunDir) -> Path:
    """Where the trainer writes checkpoints before they are complete."""
    return run_dir.checkpoints / ".draft"


def training_arguments(config: TrainConfig, run_dir: RunDir) -> dict[str, Any]:
    """Keyword arguments for any `transformers.TrainingArguments`.

    Logging, evaluation and saving are left to our callback, so that one place decides when each happens.
    """
    precision = compute_precision(config)
    accelerated = has_accelerator(config)
    return {
        "output_dir": str(draft_dir(run_dir)),
        "max_steps": config.max_steps or -1,
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_steps": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "gradient_checkpointing": config.gradient_checkpointing,
        "use_cpu": not accelerated,
        "dataloader_pin_memory": accelerated,
        "seed": config.seed,
        "logging_strategy": "no",
        # A NaN loss is shown as what it is.
        "logging_nan_inf_filter": False,
        "eval_strategy": "no",
        "save_strategy": "no",
        # Kept in the trainer's state, so that the count goes on after a resume.
        "include_num_input_tokens_seen": "non_padding",
        "ddp_find_unused_parameters": False,
        "report_to": [],
        "disable_tqdm": True,
    }
