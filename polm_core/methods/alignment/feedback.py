"""What the methods have in common that learn from feedback which a model gives: settings, charts and the training.

Each first makes rows from the prompts, which stay in the run's directory, and then trains on them.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from polm_core.blocks import HARDWARE, MAIN, OneProcessConfig, setting
from polm_core.context import RunContext
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.method import ChartSpec
from polm_core.rewards.config import REWARD_NAMES, REWARDS, AnsweringConfig, PromptRewardsConfig
from polm_core.training.encoding import as_asked, as_pairs, plain_text
from polm_core.training.held_out import evaluating_answers
from polm_core.training.rewards import weighted
from polm_core.training.rows import Row
from polm_core.training.setup import Prompts, bring_model, read_prompts, ready_to_write

logger = logging.getLogger(__name__)

FORMATS = (Format.PROMPT, Format.PROMPT_ANSWER)
EMPTY_ANSWER = "an empty answer"

# So many of the prompts have their answers kept among the run's samples; all of them are in its rows.
_SHOWN = 200


class OwnRowsConfig(AnsweringConfig, OneProcessConfig):
    """Settings of methods whose model first writes the rows that it is then trained on."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Training processes. One, for the rows are written by one."""

    @property
    def longest_sequence(self) -> int:
        """Tokens of the longest prompt with its answer."""
        return self.max_length + self.max_completion_length


class FeedbackConfig(OwnRowsConfig):
    """Settings of methods that learn from feedback on such rows, by preference or by imitation."""

    compares_with_reference: ClassVar[bool] = True

    beta: float = setting(0.1, group=MAIN, source="DPO, arXiv 2305.18290, appendix B", step=0.01, gt=0, le=100)
    """How strongly training on pairs holds the model to where it started: higher stays closer."""

    rewards: PromptRewardsConfig = setting(PromptRewardsConfig(), group=REWARDS)
    """What answers are rewarded for."""


def left(made: Sequence[Row], total: str) -> list[Row]:
    """The made rows that can be trained on; why others cannot is told. Raises `DataError` when there are none.

    `total` names what was made, in the plural.
    """
    found = Counter(row["problem"] for row in made if "problem" in row)
    for problem, count in found.items():
        logger.warning("%d of %d %s have %s and are left out.", count, len(made), total, problem)
    kept = [row for row in made if "problem" not in row]
    if not kept:
        problems = ", ".join(f"{problem} ({count})" for problem, count in found.most_common())
        raise DataError(
            f"None of the {len(made)} {total} can be trained on: they have {problems}.",
            code="data.untrained",
            advice=_ADVICE.get(found.most_common(1)[0][0], "Take a model that follows instructions better."),
        )
    return kept


EQUAL_REWARDS = "answers that all earn the same"
NO_JUDGEMENT = "an answer that could not be judged"
UNCHANGED = "a revision that changes nothing"
WORSE = "a revision that earns no more than the first answer"
CUT = "an answer that was cut off"
NO_ROOM = "no room for what is asked about the answer"
NONE_RIGHT = "no right answer"
NO_BETTER = "no later version that earns more than the first"

_ADVICE = {
    EMPTY_ANSWER: "Take a model that answers such prompts: one that was fine-tuned to, with its chat template.",
    EQUAL_REWARDS: "Take rewards that tell the answers apart (see the run's samples), raise num_generations or "
    "temperature so that answers differ more, or lower min_margin.",
    NO_JUDGEMENT: "Take rewards that can judge these rows: math needs rows whose answer is mathematics.",
    UNCHANGED: "Write principles that ask for something the answers do not have yet, or take a stronger model.",
    WORSE: "Write principles that ask for what the rewards measure, keep all revisions, or take a stronger model.",
    CUT: "Raise max_completion_length, or set skip_cut_answers to false to learn from them all the same.",
    NONE_RIGHT: "Take easier prompts or a stronger model, fine-tune it on some examples first, draw more answers or at "
    "another temperature, or lower min_reward; the run's samples show what was answered and what it earned.",
    NO_BETTER: "Ask for the critique in other words, take a stronger model, or set keep to best.",
    NO_ROOM: "Lower max_length or max_completion_length, write shorter principles, or take a model that reads more.",
}


def write_answers(
    context: RunContext,
    group: int,
    prompt: Any,
    answers: Sequence[str],
    parts: Sequence[Mapping[str, float | None]],
    weights: Mapping[str, float],
    notes: Sequence[str] = (),
    *,
    step: int = 0,
    by: str = "",
) -> None:
    """Keep the answers to one of the first prompts to read, with their rewards and what is to be known of each.

    `by` says who wrote them, when it was not the model of the run.
    """
    if group >= _SHOWN:
        return
    rewards = [weighted(one, weights) for one in parts]
    for place, (answer, reward) in enumerate(zip(answers, rewards, strict=True)):
        others = [other for index, other in enumerate(rewards) if index != place and other is not None]
        known = reward is not None and others
        context.log_sample(
            step,
            plain_text(prompt),
            answer,
            group=group,
            place=place,
            rewards=dict(parts[place]),
            reward=reward,
            advantage=reward - sum(others) / len(others) if reward is not None and known else None,
            **as_asked(prompt),
            **({"note": notes[place]} if notes else {}),
            **({"by": by} if by else {}),
        )


def tell_of_rows(context: RunContext, values: dict[str, float]) -> None:
    """Log what is to be known of the made rows; a run that goes on has told it before."""
    if context.spec.resume is None:
        context.log_metrics(0, values)


class Start(NamedTuple):
    """What a run has before it makes its rows; `model` is ready to write."""

    prompts: Prompts
    model: Any
    adapter: Any | None


def start(config: OwnRowsConfig, context: RunContext, formats: Sequence[Format] = FORMATS) -> Start:
    """Read the prompts, load the rewards and the model, and make it ready to write."""
    prompts = read_prompts(config, context, formats)
    model, adapter = bring_model(config, context)
    return Start(prompts, ready_to_write(model, config, context), adapter)


def imitate(config: OwnRowsConfig, context: RunContext, begun: Start, rows: Sequence[Row]) -> dict[str, float]:
    """Supervised fine-tuning on rows of prompt and completion; the final metrics."""
    return _train(imitator(config, context, begun, rows), config, context, begun)


def imitator(
    config: OwnRowsConfig,
    context: RunContext,
    begun: Start,
    rows: Sequence[Row],
    *,
    right_from: float | None = None,
    **arguments: Any,
) -> Any:
    """The trainer that does this; `arguments` are its own, in place of those that the settings give."""
    from trl import SFTConfig, SFTTrainer

    from polm_core.methods.fine_tuning.sft import tokenised
    from polm_core.training.arguments import training_arguments

    prompts = begun.prompts
    trainer = evaluating_answers(SFTTrainer, prompts.held_out, prompts.rewards, config, right_from=right_from)(
        model=begun.model,
        args=SFTConfig(
            **(training_arguments(config, context.run_dir) | arguments), max_length=None, loss_type="chunked_nll"
        ),
        train_dataset=tokenised(
            prompts.tokenizer, rows, Format.PROMPT_COMPLETION, "answers", limit=config.longest_sequence
        ),
        processing_class=prompts.tokenizer,
        peft_config=begun.adapter,
    )
    trainer.eval_dataset = prompts.held_out
    return trainer


def prefer(config: FeedbackConfig, context: RunContext, begun: Start, pairs: Sequence[Row]) -> dict[str, float]:
    """Direct preference optimisation on rows of prompt, chosen and rejected; the final metrics."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.preferences import reference

    trainer = evaluating_answers(DPOTrainer, begun.prompts.held_out, begun.prompts.rewards, config)(
        model=begun.model,
        ref_model=reference(begun.model, begun.adapter, config),
        args=DPOConfig(
            **training_arguments(config, context.run_dir), max_length=config.longest_sequence, beta=config.beta
        ),
        train_dataset=Dataset.from_list(as_pairs(pairs, wrap=config.chat_template)),
        processing_class=begun.prompts.tokenizer,
        peft_config=begun.adapter,
    )
    return _train(trainer, config, context, begun)


def _train(trainer: Any, config: OwnRowsConfig, context: RunContext, begun: Start) -> dict[str, float]:
    from polm_core.training.loop import train

    trainer.eval_dataset = begun.prompts.held_out
    return train(trainer, context, config, begun.prompts.split)


EVALUATED_REWARD = ChartSpec(
    "Reward",
    ("eval/reward",),
    "reward",
    "The mean weighted reward of the answers to held-out prompts. It should rise: this is what the run gains.",
)
EVALUATED_PARTS = ChartSpec(
    "Parts of the reward",
    tuple(f"eval/reward/{name}" for name in REWARD_NAMES),
    "reward",
    "Each reward on its own, before its weight. One that falls while the sum rises is being traded away.",
)
KEPT = ChartSpec(
    "Rows that are trained on",
    ("made/kept",),
    "share of prompts",
    "The prompts that gave a row to train on; the log says why others did not.",
)
OWN_JUDGEMENT = (
    "What the judge, the principles or the rewards overlook: the model learns their blind spots with the rest. Read "
    "the rows in the run's samples before you trust the curve."
)
