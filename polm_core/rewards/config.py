"""The settings of rewards, and of the methods that learn from them."""

import json
from math import ceil, prod
from typing import Any, ClassVar, Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from polm_core.blocks import DATA, MAIN, SCHEDULE, Block, RunConfig, WritingConfig, setting
from polm_core.patterns import check_pattern
from polm_core.rewards.json_schema import check_schema
from polm_core.rewards.judge import RUBRIC

REWARDS = "rewards"
ROLLOUTS = "rollouts"

# What each reward is called; its weight is the setting of that name, and metrics and samples use it too.
REWARD_NAMES = (
    "math",
    "exact",
    "reasoning_gym",
    "regex",
    "valid_json",
    "think_tags",
    "length",
    "no_repeats",
    "instructions",
    "reward_model",
    "judge",
)
# These compare with the answer that the row holds.
COMPARING = frozenset({"math", "exact", "reasoning_gym"})


def _weight(default: float = 0.0) -> Any:
    return setting(default, group=REWARDS, unit="weight", step=0.1, ge=-100, le=100)


def _option(default: Any, of: str, *, media: str = "", **more: Any) -> Any:
    """A setting that has a meaning while the reward `of` has a weight; `media` is the type of what its text holds."""
    field = setting(default, group=REWARDS, **more)
    field.json_schema_extra |= {"needs": of} | ({"contentMediaType": media} if media else {})
    return field


class RewardsConfig(Block):
    """What an answer is rewarded for: the sum of the rewards below, each times its weight.

    A reward of weight 0 is not computed, a negative weight punishes. Rewards judge the text after `</think>`, unless
    they say otherwise.
    """

    math: float = _weight(1.0)
    """Weight of being right in mathematics: 1 when the last number or formula of the text equals the row's answer,
    however it is written, 0 when not. Rows whose answer is no mathematics are not judged."""

    exact: float = _weight()
    """Weight of being the row's answer to the letter: 1 when the text is that and nothing else, 0 when not."""

    reasoning_gym: float = _weight()
    """Weight of what the row's reasoning-gym task gives the answer, from 0 to 1; some tasks give a part for what is
    nearly right, or has the right form. Rows that no task made are not judged: make some on the Datasets page."""

    regex: float = _weight()
    """Weight of a regular expression: 1 when it is found in the text, thoughts included, 0 when not."""

    regex_pattern: str = _option("", "regex", max_length=1000)
    """The regular expression to find, in RE2 syntax: `(?i)` ignores case, there is no look-around."""

    valid_json: float = _weight()
    """Weight of being JSON: 1 when the text, or the code block that it is, is JSON that fits the schema, 0 when not."""

    json_schema: str = _option("", "valid_json", media="application/json", max_length=20_000)
    """JSON Schema (2020-12) that the JSON has to fit, such as `{"type": "object"}`; empty takes any JSON."""

    think_tags: float = _weight()
    """Weight of thinking first: 1 for `<think>`, thoughts, `</think>` and then an answer, each once, 0 otherwise."""

    length: float = _weight()
    """Weight of the right length: 1 within the bounds; below them it falls to 0 at an empty text, above them to 0 at
    twice the longest."""

    length_min: int = _option(1, "length", unit="characters", ge=0, le=1_000_000)
    """Shortest text that is not too short."""

    length_max: int = _option(400, "length", unit="characters", ge=1, le=1_000_000)
    """Longest text that is not too long."""

    no_repeats: float = _weight()
    """Weight of not repeating oneself: the share of runs of three words that are said for the first time, thoughts
    included; 1 when nothing is said twice."""

    instructions: float = _weight()
    """Weight of following instructions: the share of those below that are set which the text keeps."""

    must_contain: list[str] = _option([], "instructions", max_length=20)
    """Words that the text has to hold, in capitals or not; each counts as one instruction."""

    must_not_contain: list[str] = _option([], "instructions", max_length=20)
    """Words that the text must not hold, in capitals or not; each counts as one instruction."""

    min_words: int = _option(0, "instructions", unit="words", ge=0, le=100_000)
    """At least so many words; 0 does not ask for any."""

    max_words: int = _option(0, "instructions", unit="words", ge=0, le=100_000)
    """At most so many words; 0 does not bound them."""

    bullet_points: int = _option(0, "instructions", unit="points", ge=0, le=1000)
    """Exactly so many lines that begin with `-` or `*`; 0 does not count them."""

    letter_case: Literal["any", "lower", "upper"] = _option("any", "instructions")
    """All letters small, all in capitals, or either."""

    no_commas: bool = _option(False, "instructions")
    """No comma in the text."""

    ends_with: str = _option("", "instructions", max_length=1000)
    """What the text ends with, to the letter; empty does not ask for any."""

    reward_model: float = _weight()
    """Weight of the score that the run's reward model gives the whole answer. Its scores have no bounds: look at them
    first, and weigh the others accordingly. A process reward model judges each line of the answer, from 0 to 1."""

    step_scores: Literal["product", "min", "last"] = _option(
        "product", "reward_model", source="Let's Verify Step by Step, arXiv 2305.20050"
    )
    """What a process reward model's scores of the steps become: their product, which is the chance that all are right
    and falls with each step; that of the worst; or that of the last. Other reward models score whole answers."""

    judge: float = _weight()
    """Weight of the score that a language model gives the text as a judge, from 0 to 1."""

    judge_by: Literal["model", "endpoint"] = _option("model", "judge")
    """Who judges: the run's judge model, or the OpenAI-compatible endpoint that the team or the studio has set."""

    judge_rubric: str = _option(RUBRIC, "judge", media="text/plain", max_length=10_000)
    """What the judge is told to look at."""

    @model_validator(mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        """Accept a list of rewards, each with its weight (1 when not given) and options: these and no others."""
        if not isinstance(value, list):
            return value
        found: dict[str, Any] = {}
        for item in value:
            options = {"type": item} if isinstance(item, str) else dict(item) if isinstance(item, dict) else {}
            name = options.pop("type", None)
            if name not in REWARD_NAMES:
                raise ValueError(f"must be rewards that each name their type, one of {', '.join(REWARD_NAMES)}")
            if name in found:
                raise ValueError(f"must not name {name} twice")
            found |= {name: options.pop("weight", 1.0), **options}
        return dict.fromkeys(REWARD_NAMES, 0.0) | found

    @field_validator("must_contain", "must_not_contain", mode="before")
    @classmethod
    def _as_texts(cls, value: Any) -> Any:
        """Accept a single word, and words that look like numbers."""
        if isinstance(value, str):
            value = value.split(",")
        return [str(item).strip() for item in value if str(item).strip()] if isinstance(value, list) else value

    @field_validator("json_schema", mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        """Accept the schema itself in place of its text."""
        return json.dumps(value) if isinstance(value, dict | bool) else value

    @field_validator("regex_pattern")
    @classmethod
    def _check_pattern(cls, pattern: str, info: ValidationInfo) -> str:
        if info.data.get("regex") and not pattern:
            raise ValueError("must be a regular expression while regex has a weight")
        if pattern:
            check_pattern(pattern)
        return pattern

    @field_validator("json_schema")
    @classmethod
    def _check_schema(cls, schema: str) -> str:
        if schema:
            check_schema(schema)
        return schema

    @field_validator("length_max")
    @classmethod
    def _check_length(cls, longest: int, info: ValidationInfo) -> int:
        if longest < info.data.get("length_min", 0):
            raise ValueError(f"must be at least length_min, {info.data['length_min']}")
        return longest

    @field_validator("max_words")
    @classmethod
    def _check_words(cls, most: int, info: ValidationInfo) -> int:
        if most and most < info.data.get("min_words", 0):
            raise ValueError(f"must be at least min_words, {info.data['min_words']}, or 0")
        return most

    @model_validator(mode="after")
    def _check_all(self) -> Self:
        if not self.weights:
            raise ValueError("must give at least one reward a weight")
        if self.instructions and not self.has_instructions:
            raise ValueError("must set an instruction to follow, such as max_words, while instructions has a weight")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The rewards that count, by name."""
        return {name: weight for name in REWARD_NAMES if (weight := float(getattr(self, name)))}

    @property
    def comparing(self) -> list[str]:
        """The rewards that count and need rows with an answer."""
        return [name for name in self.weights if name in COMPARING]

    @property
    def has_instructions(self) -> bool:
        asked = (self.must_contain, self.must_not_contain, self.min_words, self.max_words, self.bullet_points)
        return any(asked) or self.no_commas or bool(self.ends_with) or self.letter_case != "any"


class PromptRewardsConfig(RewardsConfig):
    """What answers to prompts alone are rewarded for, which have no answer to be compared with."""

    math: float = _weight()
    """Weight of being right in mathematics, where rows have an answer: 1 when the last number or formula of the text
    equals it, however it is written, 0 when not. Rows whose answer is no mathematics are not judged."""

    no_repeats: float = _weight(1.0)
    """Weight of not repeating oneself: the share of runs of three words that are said for the first time, thoughts
    included; 1 when nothing is said twice. It stands for rewards that you have yet to choose."""


class PromptedConfig(RunConfig):
    """A method that is given prompts: answers to them are written."""

    # Half a prompt asks something else.
    drops_long_rows: ClassVar[bool] = True
    # Answers of the model that stand after the prompt in the longest text that it reads and writes.
    answers_in_a_text: ClassVar[int] = 1

    max_length: int = setting(512, group=DATA, unit="tokens", ge=8, le=1_048_576)
    """Longest prompt; rows with a longer one are left out."""

    eval_rows: int = setting(50, group=SCHEDULE, unit="rows", ge=1, le=100_000)
    """Most held-out rows an evaluation takes; the model writes an answer to each."""

    chat_template: bool = setting(True, group=DATA)
    """Put plain-text prompts into the model's chat turns; off has the model go on from the bare text."""

    max_completion_length: int = setting(256, group=MAIN, unit="tokens", ge=1, le=32_768)
    """Longest answer while training; what is not finished by then is cut off."""

    temperature: float = setting(1.0, group=ROLLOUTS, source="trl", step=0.1, gt=0, le=10)
    """Randomness of the answers while training: lower ones are alike, and alike ones teach nothing."""

    top_p: float = setting(1.0, group=ROLLOUTS, source="trl", step=0.05, gt=0, le=1)
    """Draw from the likeliest tokens that together reach this probability."""

    @property
    def prompts_needed(self) -> int:
        """The fewest prompts that a run can start with."""
        return 1

    @property
    def answers_to_each(self) -> int:
        """Answers that each prompt gets, where nothing is trained."""
        return 1

    @property
    def added_tokens(self) -> int:
        """Tokens at most that a prompt is asked with beside its own."""
        return 0

    @property
    def answers_at_once(self) -> int:
        """Answers that are written in one batch, where nothing is learned from them at once."""
        return self.batch_size


class AskingConfig(PromptedConfig):
    """Such a method whose answers are rewarded."""

    rewards: RewardsConfig = setting(RewardsConfig(), group=REWARDS)
    """What answers are rewarded for."""


class PromptedTrainConfig(PromptedConfig, WritingConfig):
    """Such a method that trains the model on answers."""

    @property
    def rounds_of_epochs(self) -> int:
        """How often as many steps are trained as the epochs count."""
        return 1

    @property
    def steps_before_epochs(self) -> int:
        """Optimiser steps before those that the epochs count."""
        return 0

    @property
    def sequences_per_row(self) -> int:
        """How many sequences are trained on together: two for a pair."""
        return 1

    def rollouts(self, steps: int, prompts: int) -> int:
        """How often a batch of answers is written, in so many steps on so many prompts."""
        return steps


class AnsweringConfig(AskingConfig, PromptedTrainConfig):
    """A method that is given prompts: its model writes the answers, they are rewarded, and it learns from them."""


class OnlineConfig(AnsweringConfig):
    """A method whose model writes answers at each step, and learns from the rewards they get."""

    has_value_model: ClassVar[bool] = False
    # Answers to each held-out prompt: more prompts say more than more answers to the same.
    held_out_answers: ClassVar[int] = 1

    batch_size: int = setting(8, group=MAIN, unit="answers", source="trl", ge=1, le=4096)
    """Answers in one forward pass on one device: lower it when memory runs out, and raise
    gradient_accumulation_steps."""

    num_generations: int = setting(4, group=MAIN, unit="answers", source="RLOO, arXiv 2402.14740", ge=2, le=1024)
    """Answers to each prompt, which are compared with each other. It divides the answers of a step: batch_size x
    gradient_accumulation_steps x processes."""

    skip_cut_answers: bool = setting(False, group=ROLLOUTS, source="DAPO, arXiv 2503.14476, which does")
    """Do not learn from answers that were cut off, whatever their reward."""

    logged_prompts: int = setting(2, group=ROLLOUTS, unit="prompts", ge=0, le=256)
    """Prompts of each step whose answers are kept to read, with their rewards; 0 keeps none."""

    @field_validator("num_generations")
    @classmethod
    def _check_group(cls, answers: int, info: ValidationInfo) -> int:
        sizes = ("batch_size", "gradient_accumulation_steps", "processes")
        if not all(name in info.data for name in sizes):
            return answers  # what is wrong with those is told beside them
        total = prod(info.data[name] for name in sizes)
        if total % answers:
            fitting = [number for number in range(2, min(total, 64) + 1) if total % number == 0]
            such = f", such as {', '.join(map(str, fitting[:6]))}" if fitting else ": raise batch_size"
            raise ValueError(
                f"must divide batch_size x gradient_accumulation_steps x processes, {total}, not be {answers}{such}"
            )
        return answers

    @property
    def steps_per_rollout(self) -> int:
        """Optimiser steps that are taken on the same answers."""
        return 1

    @property
    def prompts_per_rollout(self) -> int:
        """Prompts that are answered at once, before anything is learned from the answers."""
        return self.batch_size * self.gradient_accumulation_steps * self.processes // self.num_generations

    @property
    def prompts_needed(self) -> int:
        return self.prompts_per_rollout

    def rollouts(self, steps: int, prompts: int) -> int:
        return ceil(steps / self.steps_per_rollout)


class RepeatingConfig(OnlineConfig):
    """An online method that may take several optimiser steps on the same answers."""

    mini_batches: int = setting(1, group=ROLLOUTS, unit="steps", source="trl", ge=1, le=1024)
    """Optimiser steps that it takes to go once through the answers: so many times a step's answers are written at
    once."""

    @property
    def passes(self) -> int:
        """Times that the same answers are gone through."""
        return 1

    @property
    def steps_per_rollout(self) -> int:
        return self.mini_batches * self.passes

    @property
    def prompts_per_rollout(self) -> int:
        return super().prompts_per_rollout * self.mini_batches


class VllmConfig(Block):
    """An online method whose answers another engine may write."""

    use_vllm: Literal["auto", "off"] = setting("auto", group=ROLLOUTS)
    """`auto` has vLLM write the answers where it is installed and the run computes on an NVIDIA GPU: many times faster.
    It draws by chances of its own, so such a run does not resume to the same weights. Weights in 4 bits are written
    from without it."""
