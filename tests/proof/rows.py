"""What each method of the catalogue has to move, by how much, and from which start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polm_core import catalogue
from polm_core.blocks import RunConfig, TrainConfig, WritingConfig
from polm_core.formats import Format
from polm_core.methods.efficiency.compressing import CompressConfig

MODEL = "SmolLM2-135M-Instruct"
BIASED = f"{MODEL} with biases of zero"
# What the starter becomes by supervised fine-tuning on the sample conversations: a laptop has no larger model of its
# family, so a model that knows more has to be one of the same size. It has seen rows that the student's runs hold out.
TEACHER_STEPS = 60
TEACHER = f"{MODEL} after {TEACHER_STEPS} steps of fine-tuning"
# The same with a smaller vocabulary, in another order: many words are other tokens than the student's.
OTHER_MERGES = 8000
OTHER_TEACHER = f"{MODEL} with {OTHER_MERGES} merges, after {TEACHER_STEPS} steps of fine-tuning"
# What is said of a merge, which measures nothing itself.
MERGED_METRIC = "eval/loss"
# Small enough to learn to see within minutes: what it begins with is that it knows nothing.
TINY = "a Llama of two layers that begins at random"
SEEING_STEPS = 400
# Tower and language model have learned the sample digits, held-out ones included; the connector is begun anew.
SEEING = f"{TINY}, after {SEEING_STEPS} steps of vlm-sft, with a new connector"
SEEDS = (1, 2)
HELD_OUT = 0.2

# An adapter is what fits a laptop, and what most people train with.
_LORA: dict[str, Any] = {"adapter": {"type": "lora", "r": 16}, "learning_rate": 1e-4}
# Each row is two sequences, most often read by the reference model too; margins move within few of them.
_PAIRS: dict[str, Any] = {**_LORA, "batch_size": 2, "eval_rows": 20}


@dataclass(frozen=True)
class ProofRow:
    """One row: `metric` on held-out rows after `steps` steps against its value before the first.

    `at_most` bounds the end as a share of the start, for what must fall; `gain` is what must be won over the start, and
    `at_least` what must be reached from below. Of what else the method may cost, `within` says how many times its
    start a metric may reach, and `keeps` below what another must not fall. Each seed has to keep to it.
    """

    slug: str
    metric: str
    unit: str
    steps: int = 20
    at_most: float | None = None
    gain: float | None = None
    at_least: float | None = None
    within: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    model: str = MODEL
    teacher: str = ""
    keeps: tuple[str, float] | None = None
    held_out: float = HELD_OUT

    @property
    def format(self) -> Format | None:
        """That of its rows, where its method takes any."""
        return next(iter(catalogue.get(self.slug).formats), None)

    @property
    def bar(self) -> str:
        limits = "".join(f", {key} at most {limit:g} x" for key, limit in self.within.items())
        limits += f", {self.keeps[0]} at least {self.keeps[1]:g}" if self.keeps else ""
        if self.at_most is not None:
            return f"at most {self.at_most:g} x before{limits}"
        bar = f"at least {self.at_least:g}" if self.at_least is not None else f"at least {self.gain:g} more"
        return f"{bar}{limits}"

    def is_met(self, before: float, after: float) -> bool:
        """Whether one seed's run keeps to the bar; NaN does not."""
        if self.at_most is not None:
            return after <= self.at_most * before
        if self.at_least is not None:
            return after >= self.at_least and after > before
        return after >= before + (self.gain or 0.0)

    @property
    def costs(self) -> list[str]:
        """The other metrics that are bounded."""
        return [*self.within, *([self.keeps[0]] if self.keeps else [])]

    def is_kept(self, costs: Mapping[str, Sequence[float]]) -> bool:
        """Whether what the method may cost is in bounds, given the values of those metrics in a run; NaN is not."""
        within = all(costs[key][-1] <= limit * costs[key][0] for key, limit in self.within.items())
        return within and (self.keeps is None or costs[self.keeps[0]][-1] >= self.keeps[1])

    @property
    def config(self) -> dict[str, Any]:
        """All that the row sets; the rest is the method's own defaults."""
        shared: dict[str, Any] = {}
        if issubclass(catalogue.get(self.slug).config, RunConfig):
            shared = {"batch_size": 4, "max_length": 256, "eval_rows": 30}
        if issubclass(catalogue.get(self.slug).config, TrainConfig):
            shared |= {"max_steps": self.steps, "eval_steps": 0, "save_steps": 0}
        if issubclass(catalogue.get(self.slug).config, WritingConfig | CompressConfig):
            shared["generation"] = {"samples": 0}
        return {**shared, **self.settings}


def _loss(slug: str, at_most: float, **more: Any) -> ProofRow:
    return ProofRow(slug, "eval/loss", "nats per token", at_most=at_most, **more)


def _margin(slug: str, gain: float, **settings: Any) -> ProofRow:
    settings = {**_PAIRS, **settings}
    return ProofRow(slug, "eval/rewards/margins", "reward margin", steps=12, gain=gain, settings=settings)


def _free_margin(slug: str, gain: float) -> ProofRow:
    """Without a reference model the margin is there from the start: most pairs are right by their length alone."""
    settings = {**_PAIRS, "learning_rate": 3e-4, "eval_rows": 30}
    return ProofRow(slug, "eval/rewards/margins", "reward margin", steps=16, gain=gain, settings=settings)


def _reward(slug: str, gain: float, *, steps: int = 8, **settings: Any) -> ProofRow:
    """Short right answers to sums; the prompts that are held out get one answer each."""
    shared = {
        "batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 24,
        "eval_rows": 30,
        "temperature": 0.7,
        # Of these two the length tells more: most samples are neither all wrong nor all right by it.
        "rewards": {"math": 0.5, "length": 1.0, "length_max": 50},
    }
    return ProofRow(slug, "eval/reward", "reward", steps=steps, gain=gain, settings={**_LORA, **shared, **settings})


def _short(slug: str, gain: float, *, steps: int = 8, **settings: Any) -> ProofRow:
    """Answers of at most ten words, which the rewards can verify; the prompts that are held out get one each."""
    shared = {
        "batch_size": 8,
        "max_completion_length": 24,
        "eval_rows": 30,
        "rewards": {"no_repeats": 0.0, "instructions": 1.0, "max_words": 10},
    }
    return ProofRow(slug, "eval/reward", "reward", steps=steps, gain=gain, settings={**_LORA, **shared, **settings})


def _right(slug: str, gain: float, *, steps: int, **settings: Any) -> ProofRow:
    """Right answers to sums, however they are put; the prompts that are held out get one answer each."""
    shared = {"batch_size": 8, "max_completion_length": 48, "eval_rows": 40, "learning_rate": 2e-4}
    return ProofRow(
        slug, "eval/accuracy", "share right", steps=steps, gain=gain, settings={**_LORA, **shared, **settings}
    )


def _taught(slug: str, at_most: float, **settings: Any) -> ProofRow:
    """The distance from a teacher, by the answers of rows that are held out from the student."""
    return ProofRow(
        slug,
        "eval/teacher_kl",
        "nats per token",
        steps=30,
        at_most=at_most,
        settings={"max_completion_length": 48, **settings},
        teacher=TEACHER,
    )


def _seeing(slug: str, model: str, *, steps: int, **settings: Any) -> ProofRow:
    """Digits named right, of those held out."""
    shared = {"batch_size": 16, "eval_rows": 180, "generation": {"samples": 0, "max_new_tokens": 4}}
    settings = {**shared, **settings}
    return ProofRow(slug, "eval/accuracy", "share right", steps=steps, gain=0.2, settings=settings, model=model)


ROWS: tuple[ProofRow, ...] = (
    _loss("sft", 0.6),
    _loss("lora", 0.6),
    _loss("rslora", 0.6),
    _loss("dora", 0.6),
    _loss("qlora", 0.6),
    _loss("pissa", 0.6),
    _loss("vera", 0.8),
    _loss("oft", 0.8),
    _loss("ia3", 0.9),
    _loss("bitfit", 0.9, model=BIASED),
    _loss("prompt-tuning", 0.9),
    _loss("prefix-tuning", 0.9),
    _loss("p-tuning", 0.9),
    _reward("reft", 0.1, steps=12, learning_rate=5e-4, sft_learning_rate=1e-4, sft_steps=4),
    _loss("continued-pretraining", 0.8, settings={"max_length": 128}),
    _seeing("vlm-sft", TINY, steps=600, learning_rate=2e-3),
    _seeing("vlm-connector", SEEING, steps=150, learning_rate=5e-3),
    # It learns fast.
    ProofRow(
        "reward-model",
        "eval/accuracy",
        "share of pairs right",
        steps=16,
        gain=0.2,
        settings={**_LORA, "learning_rate": 2e-4},
    ),
    # Two steps on the same answers; each costs as much again for the value model.
    _reward("ppo", 0.1, steps=12, learning_rate=5e-4, value_learning_rate=5e-4, num_generations=1, ppo_epochs=2),
    _reward("rloo", 0.1, learning_rate=5e-4),
    _reward("online-dpo", 0.1, learning_rate=5e-4, num_generations=2),
    _reward("nash-md", 0.1, learning_rate=5e-4, num_generations=2),
    _reward("xpo", 0.1, learning_rate=5e-4, num_generations=2),
    _margin("dpo", 0.2),
    _margin("ipo", 0.2),
    _margin("slic", 0.2),
    _margin("robust-dpo", 0.2),
    _margin("apo", 0.2),
    _margin("exo", 0.2),
    _margin("sppo", 0.2),
    _margin("discopop", 0.2),
    _margin("wpo", 0.2),
    _margin("ld-dpo", 0.2),
    _margin("kto", 0.2),
    _margin("bco", 0.2),
    _free_margin("orpo", 0.02),
    _free_margin("cpo", 0.1),
    _free_margin("simpo", 0.1),
    ProofRow(
        "prm",
        "eval/above_majority",
        "share of steps",
        steps=16,
        at_least=0.1,
        settings={**_LORA, "learning_rate": 5e-4},
    ),
    _taught("distill", 0.7),
    _taught("seq-kd", 0.9),
    # Half of the rows against the bar of supervised fine-tuning on all.
    _loss("select-data", 0.65, settings={"keep_share": 0.5}),
    _taught("minillm", 0.9, learning_rate=2e-5),
    ProofRow(
        "gold",
        "eval/teacher_uld",
        "distance",
        steps=30,
        at_most=0.9,
        settings={"max_completion_length": 48},
        teacher=OTHER_TEACHER,
    ),
    _short("rlaif", 0.1, steps=12, batch_size=4, num_generations=2, learning_rate=5e-4),
    _short(
        "constitutional-ai",
        0.1,
        learning_rate=5e-4,
        keep="better",
        principles=["Be brief: answer in one sentence of at most ten words."],
    ),
    _reward("grpo", 0.1, learning_rate=5e-4),
    _reward("dr-grpo", 0.1, learning_rate=5e-4),
    _reward("dapo", 0.1, learning_rate=5e-4),
    _reward("gspo", 0.1, learning_rate=5e-4),
    _reward("bnpo", 0.1, learning_rate=5e-4),
    _reward("cispo", 0.1, learning_rate=5e-4),
    _reward("sapo", 0.1, learning_rate=5e-4),
    _right("rejection-sampling", 0.1, steps=40, rounds=2, num_generations=4),
    _right("self-refine", 0.1, steps=40),
    ProofRow(
        "quantize",
        "size/ratio",
        "share of bytes",
        steps=0,
        at_most=0.65,
        within={"eval/perplexity": 1.02},
        settings={"scheme": "int8"},
    ),
    # Zeros save no byte, so the share of weights that are left is what falls.
    ProofRow(
        "prune",
        "size/nonzero",
        "share of weights",
        steps=0,
        at_most=0.7,
        within={"eval/perplexity": 1.5},
        settings={"sparsity": 0.3, "calibration_rows": 32},
    ),
    # From one answer to the vote of eight: the steps of its values are N.
    ProofRow(
        "test-time-scaling",
        "accuracy/majority",
        "share right",
        steps=0,
        gain=0.05,
        settings={"num_samples": 8, "batch_size": 32, "max_completion_length": 48, "eval_rows": 60},
    ),
    # The steps of its values are the edits that are made.
    ProofRow(
        "knowledge-edit",
        "efficacy",
        "share of edits",
        steps=8,
        at_least=1.0,
        settings={"stats_tokens": 2048},
        keeps=("neighbourhood", 0.9),
    ),
    # The better of two models that were each fine-tuned on a task of their own, against what they become together.
    ProofRow("merge", MERGED_METRIC, "nats per token, mean of two tasks", steps=20, at_most=0.97),
    # From the question alone to the question with passages: the steps of its values are passages.
    ProofRow(
        "rag",
        "accuracy",
        "share right",
        steps=0,
        gain=0.2,
        settings={"top_k": 3, "batch_size": 6, "max_completion_length": 24},
        held_out=0.5,
    ),
)
