"""What the methods have in common that compare what a model and its teacher would say next: settings, charts and the
training."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from polm_core.blocks import GENERATION, MAIN, GenerationConfig, WritingConfig, setting
from polm_core.context import ModelSpec, RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Teacher
from polm_core.methods.alignment.online import WRITING_SPEED
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.training.rows import Split

if TYPE_CHECKING:
    from polm_core.training.distilling import DistillationTrainer, Loss

FORMATS = (Format.CONVERSATION, Format.PROMPT_COMPLETION)
BRANCH = "Knowledge distillation"


class TaughtConfig(WritingConfig):
    """Settings of methods that compare what the model would say next with what its teacher would."""

    max_completion_length: int = setting(128, group=MAIN, unit="tokens", source="trl's GKD", ge=1, le=32_768)
    """Longest answer that the model writes to learn from it; what is not finished by then is cut off."""

    temperature: float = setting(1.0, group=GENERATION, step=0.1, gt=0, le=10)
    """Randomness of the answers that the model writes to learn from them."""

    @property
    def share_on_policy(self) -> float:
        """The share of the steps that learn from answers of the model."""
        return 1.0

    def rollouts(self, steps: int, prompts: int) -> int:
        """How often a batch of answers is written, in so many steps."""
        return math.ceil(steps * self.share_on_policy * self.gradient_accumulation_steps)


class Lesson(NamedTuple):
    """What a run with a teacher has before its trainer is made: `writing` is how the model writes answers of its own,
    `arguments` are what every trainer takes."""

    split: Split
    tokenizer: Any
    teacher: ModelSpec
    writing: Any
    arguments: dict[str, Any]


def train_with_teacher(config: TaughtConfig, context: RunContext, loss: "Loss") -> dict[str, float]:
    """The whole of a run that compares both models by `loss`, token by token; the final metrics."""

    def trainer(lesson: Lesson) -> "DistillationTrainer":
        from trl import SFTConfig

        from polm_core.training.arguments import training_arguments
        from polm_core.training.distilling import DistillationTrainer

        # The loss that holds every logit: the other has none to compare.
        args = SFTConfig(**training_arguments(config, context.run_dir), max_length=None, loss_type="nll")
        made = DistillationTrainer(args=args, **lesson.arguments)
        made.loss = loss
        return made

    return train_taught(config, context, Teacher.SAME_TOKENIZER, trainer)


def train_taught(
    config: TaughtConfig,
    context: RunContext,
    kind: Teacher,
    trainer_of: "Callable[[Lesson], DistillationTrainer]",
    prepare: Callable[[Split], Split] = lambda split: split,
) -> dict[str, float]:
    """The whole of a run with a teacher of that kind, on rows as `prepare` leaves them; the final metrics."""
    from polm_core.methods.fine_tuning.sft import check_trained, tokenised
    from polm_core.training.loop import train
    from polm_core.training.sampling import generation_options
    from polm_core.training.setup import bring_model, read_data
    from polm_core.training.teachers import bring_teacher, check_teacher

    split, tokenizer = read_data(config, context, FORMATS)
    spec = check_teacher(kind, context.spec, tokenizer)
    learned = prepare(split)
    train_set, eval_set = (
        tokenised(tokenizer, rows, learned.format, "answers", limit=config.max_length)
        for rows in (learned.train, learned.held_out)
    )
    check_trained(train_set, config.max_length)
    teacher = bring_teacher(spec, config, context)
    model, adapter = bring_model(config, context)
    answers = GenerationConfig(
        max_new_tokens=config.max_completion_length, do_sample=True, temperature=config.temperature
    )
    writing = generation_options(model, tokenizer, answers)
    # Every token may be drawn, or the answers are not the model's own.
    writing.top_k = 0
    arguments = {
        "model": model,
        "train_dataset": train_set,
        "eval_dataset": eval_set or None,
        "processing_class": tokenizer,
        "peft_config": adapter,
    }
    trainer = trainer_of(Lesson(learned, tokenizer, spec, writing, arguments))
    trainer.teacher, trainer.writing, trainer.on_policy = teacher, writing, config.share_on_policy
    # The loss is a mean already, over tokens that the trainer has not counted.
    trainer.model_accepts_loss_kwargs = False
    return train(trainer, context, config, split)


HELD_OUT_LOSS = ChartSpec(
    "Held-out loss",
    ("eval/loss",),
    "nats per token",
    "The loss on the answers of held-out rows, which the teacher did not write. It should fall towards the teacher's.",
)
DISTANCE = ChartSpec(
    "Distance from the teacher",
    ("eval/teacher_kl", "teacher_kl"),
    "nats per token",
    "The KL divergence of the model from its teacher: on held-out answers, and on those of each step. Both should "
    "fall. At 0 the model says what the teacher says.",
)
WRITTEN = ChartSpec(
    "Length of the model's answers",
    ("completions/mean_length",),
    "tokens",
    "It should come near that of the teacher's. At max_completion_length answers are cut off.",
)
CUT_OFF = ChartSpec(
    "Answers that are cut off",
    ("completions/clipped_ratio",),
    "share of answers",
    "Answers that reach max_completion_length: their end is never learned. It should stay low.",
)


def charts(loss: str, distance: ChartSpec = DISTANCE, unit: str = "nats per token") -> tuple[ChartSpec, ...]:
    """The charts of methods that compare both models; `loss` says how to read theirs."""
    return (
        HELD_OUT_LOSS,
        distance,
        ChartSpec("Loss", ("loss",), unit, loss),
        WRITTEN,
        CUT_OFF,
        WRITING_SPEED,
        GRADIENT_NORM,
    )


OTHER_TEMPLATE = (
    "A teacher with another chat template: it reads the model's, which it may never have seen. Take one of the same "
    "family, tuned to the same turns."
)
MAIN_FIELDS = (
    "max_steps",
    "epochs",
    "batch_size",
    "learning_rate",
    "max_completion_length",
    "adapter.type",
)
