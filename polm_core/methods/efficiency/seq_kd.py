"""Sequence-level distillation: a teacher writes answers to the prompts, and the model is fine-tuned on them."""

import math
from collections.abc import Sequence
from typing import Any

from polm_core.blocks import DATA, HARDWARE, MAIN, SCHEDULE, OneProcessConfig, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm, Teacher
from polm_core.methods.alignment.feedback import CUT, EMPTY_ANSWER, KEPT, left, tell_of_rows, write_answers
from polm_core.methods.alignment.online import WRITING_SPEED
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.methods.efficiency.teaching import BRANCH
from polm_core.rewards.config import ROLLOUTS, PromptedTrainConfig
from polm_core.training.made import make_rows
from polm_core.training.rows import Row
from polm_core.training.sampling import Pace, answers_to

FORMATS = (Format.PROMPT, Format.PROMPT_ANSWER)


class SeqKdConfig(PromptedTrainConfig, OneProcessConfig):
    """Settings of sequence-level distillation."""

    eval_rows: int = setting(50, group=SCHEDULE, unit="rows", ge=1, le=100_000)
    """Most held-out prompts; the teacher writes an answer to each, and the model is measured by these."""

    max_completion_length: int = setting(256, group=MAIN, unit="tokens", ge=1, le=32_768)
    """Longest answer of the teacher; what is not finished by then is cut off."""

    sampled: bool = setting(False, group=ROLLOUTS, source="Sequence-Level Knowledge Distillation, arXiv 1606.07947")
    """Draw the teacher's answers at random; off takes its likeliest token each time."""

    temperature: float = setting(1.0, group=ROLLOUTS, step=0.1, gt=0, le=10)
    """Randomness of the teacher's answers, where they are drawn."""

    skip_cut_answers: bool = setting(True, group=DATA)
    """Leave out answers that were cut off: the model would learn to stop in the middle."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Training processes. One, for the rows are written by one."""

    def rollouts(self, steps: int, prompts: int) -> int:
        return math.ceil(prompts / self.batch_size)


def run(config: SeqKdConfig, context: RunContext) -> dict[str, float]:
    """Have the teacher answer, then train on its answers and return the final metrics."""
    from polm_core.training.loading import load_tokenizer
    from polm_core.training.rollouts import check_prompts, prompt_rows
    from polm_core.training.setup import read_data
    from polm_core.training.teachers import bring_teacher, check_teacher, shares_tokenizer

    split, tokenizer = read_data(config, context, FORMATS)
    spec = check_teacher(Teacher.WRITES, context.spec, tokenizer)
    prompts, held_out = (prompt_rows(tokenizer, rows, config) for rows in (split.train, split.held_out))
    check_prompts(len(prompts), config)
    teacher = bring_teacher(spec, config, context)
    context.phase("having the teacher answer")
    writer = _Writer(config, context, teacher, load_tokenizer(spec))
    made = make_rows(context, config, [*held_out, *prompts], writer.answer, batch_size=config.batch_size)
    answered = left(made[len(held_out) :], "answers")
    tell_of_rows(context, {"made/kept": len(answered) / len(prompts), **writer.pace.metrics})
    measured = [row for row in made[: len(held_out)] if "problem" not in row]
    # What models with other tokens make of a text cannot be compared token by token.
    compared = teacher if shares_tokenizer(spec, tokenizer) else None
    del teacher, writer
    return _imitate(config, context, tokenizer, answered, measured, split, compared)


class _Writer:
    """Has the teacher answer prompts, as its own tokenizer and chat template have it."""

    def __init__(self, config: SeqKdConfig, context: RunContext, teacher: Any, tokenizer: Any) -> None:
        self.config = config
        self.context = context
        self.teacher = teacher
        self.tokenizer = tokenizer
        self.pace = Pace()

    def answer(self, place: int, prompts: Sequence[Row]) -> list[Row]:
        """The rows of some prompts, of which the first stands at `place`. Those that cannot be trained on say why."""
        answers = answers_to(
            self.teacher,
            self.tokenizer,
            [row["prompt"] for row in prompts],
            self.config,
            sampled=self.config.sampled,
            seed=self.config.seed + place,
            pace=self.pace,
        )
        return [
            self._row(place + index, row, said) for index, (row, said) in enumerate(zip(prompts, answers, strict=True))
        ]

    def _row(self, place: int, row: Row, said: str) -> Row:
        length = len(self.tokenizer(said, add_special_tokens=False)["input_ids"])
        answer = said.strip()
        write_answers(self.context, place, row["prompt"], [answer], [{}], {}, ["The teacher's answer"], by="teacher")
        made = {"prompt": row["prompt"], "completion": answer}
        if not answer:
            return {**made, "problem": EMPTY_ANSWER}
        # One that ended by itself had an end token among the tokens it was allowed.
        if self.config.skip_cut_answers and length >= self.config.max_completion_length:
            return {**made, "problem": CUT}
        return made


def _imitate(
    config: SeqKdConfig,
    context: RunContext,
    tokenizer: Any,
    rows: Sequence[Row],
    held_out: Sequence[Row],
    split: Any,
    teacher: Any,
) -> dict[str, float]:
    """Supervised fine-tuning on the rows, measured on those held out; the final metrics."""
    from trl import SFTConfig

    from polm_core.methods.fine_tuning.sft import tokenised
    from polm_core.training.arguments import training_arguments
    from polm_core.training.distilling import TaughtTrainer
    from polm_core.training.loop import train
    from polm_core.training.setup import bring_model

    limit = config.max_length + config.max_completion_length
    model, adapter = bring_model(config, context)
    train_set, eval_set = (
        tokenised(tokenizer, found, Format.PROMPT_COMPLETION, "answers", limit=limit) for found in (rows, held_out)
    )
    trainer = TaughtTrainer(
        model=model,
        # The loss that holds every logit, where they are to be compared.
        args=SFTConfig(
            **training_arguments(config, context.run_dir),
            max_length=None,
            loss_type="nll" if teacher is not None else "chunked_nll",
        ),
        train_dataset=train_set,
        eval_dataset=eval_set or None,
        processing_class=tokenizer,
        peft_config=adapter,
    )
    trainer.teacher = teacher
    return train(trainer, context, config, split)


METHOD = Method(
    slug="seq-kd",
    title="Sequence-level distillation",
    paradigm=Paradigm.EFFICIENCY,
    branch=BRANCH,
    summary="Has a larger model answer your prompts, and trains a small one on its answers.",
    when="You have prompts and no answers, and a model that answers them well, of whatever family. The simplest way "
    "to distil, and the only one here that asks nothing of the two tokenizers.",
    paper=Paper("Sequence-Level Knowledge Distillation", "1606.07947"),
    objective="Minimises the negative log-likelihood of the answers that the teacher wrote to the prompts before "
    "training: of each its likeliest one, or one drawn from all it might say.",
    formula="L = -1/|T| Σ_{t ∈ T} log π(y_t|x, y_{<t})\ny = argmax p_T(·|x), or drawn from p_T(·|x)",
    watch=(
        "What the teacher gets wrong: the model learns it with the rest. Read its answers in the run's samples.",
        "Few rows to train on: answers were cut off. Raise max_completion_length, or ask for shorter answers.",
        "Held-out loss that turns up while training loss falls: the answers are being memorised. Fewer epochs, or more "
        "prompts.",
    ),
    formats=FORMATS,
    config=SeqKdConfig,
    run=run,
    charts=(
        ChartSpec(
            "Loss",
            ("loss", "eval/loss"),
            "nats per token",
            "On the teacher's answers to training prompts and to held-out ones. Both should fall; when the held-out "
            "one turns up, the model memorises.",
        ),
        ChartSpec(
            "Distance from the teacher",
            ("eval/teacher_kl",),
            "nats per token",
            "The KL divergence of the model from its teacher on answers to held-out prompts, where both read the same "
            "tokens. It should fall.",
        ),
        KEPT,
        WRITING_SPEED,
        GRADIENT_NORM,
    ),
    main_fields=(
        "max_steps",
        "epochs",
        "batch_size",
        "learning_rate",
        "max_completion_length",
        "sampled",
        "adapter.type",
    ),
    teacher=Teacher.WRITES,
)
