"""GOLD: the model learns what a teacher of another family would say next, though that reads other tokens."""

from typing import TYPE_CHECKING

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.data.messages import is_learned
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm, Teacher
from polm_core.methods.efficiency.teaching import (
    BRANCH,
    FORMATS,
    MAIN_FIELDS,
    Lesson,
    TaughtConfig,
    charts,
    train_taught,
)
from polm_core.training.encoding import prompt_of
from polm_core.training.rows import Row, Split

if TYPE_CHECKING:
    from polm_core.training.cross_tokenizer import CrossTokenizerTrainer

_GOLD = "trl's GOLD"


class GoldConfig(TaughtConfig):
    """Settings of GOLD. Of a conversation, the last answer is learned."""

    on_policy: float = setting(0.5, group=MAIN, unit="share of steps", source=_GOLD, step=0.1, ge=0, le=1)
    """Share of the steps that learn from answers which the model writes itself; the others learn from the rows' own
    answers. 1 never looks at those, 0 is distillation on a fixed dataset."""

    shared_tokens: bool = setting(True, group=MAIN, source="Unlocking On-Policy Distillation for Any Model Family")
    """Compare tokens that are spelled alike in both vocabularies with each other, and only the rest by rank. Off
    compares all by rank, as in arXiv 2402.12030: that says how sure to be, and not of what, so give imitation a weight
    then."""

    beta: float = setting(0.5, group=MAIN, source=_GOLD, step=0.1, ge=0, le=1)
    """Which divergence is minimised over the shared tokens: 0 the forward one, 1 the reverse one, between them the
    Jensen-Shannon divergence, its teacher weighed by beta."""

    imitation: float = setting(0.0, group=MAIN, unit="weight", source=_GOLD, step=0.1, ge=0, le=100)
    """Weight of the loss on the answers themselves, beside the distance from the teacher. The fewer tokens the two
    share, the more of it is needed: arXiv 2402.12030, which shares none, takes 1."""

    @property
    def share_on_policy(self) -> float:
        return self.on_policy


def run(config: GoldConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""

    def trainer(lesson: Lesson) -> "CrossTokenizerTrainer":
        from trl.experimental.gold import GOLDConfig

        from polm_core.training.arguments import training_arguments
        from polm_core.training.cross_tokenizer import CrossTokenizerTrainer, Translator, distance
        from polm_core.training.loading import load_tokenizer

        args = GOLDConfig(
            **training_arguments(config, context.run_dir), max_length=None, loss_type="nll", beta=config.beta
        )
        teacher, rows = load_tokenizer(lesson.teacher), [*lesson.split.train, *lesson.split.held_out]
        made = CrossTokenizerTrainer(args=args, **lesson.arguments)
        made.translator = Translator(lesson.tokenizer, teacher, rows, config.max_length, lesson.writing.eos_token_id)
        made.distance = distance(args, lesson.tokenizer, teacher, shared=config.shared_tokens)
        made.imitation = config.imitation
        return made

    return train_taught(config, context, Teacher.ANY_TOKENIZER, trainer, prepare=last_answers)


def last_answers(split: Split) -> Split:
    """The last answer of each row, and what it answers. Rows whose last answer is not to be learned are left out."""

    def pairs(rows: list[Row]) -> list[Row]:
        learned = [row for row in rows if all(map(is_learned, _said(row)[-1:]))]
        asked = [(row, *prompt_of(row, split.format)) for row in learned]
        return [
            {"prompt": prompt, "completion": answer} if isinstance(prompt, list) else row
            for row, prompt, answer in asked
        ]

    return Split(pairs(split.train), pairs(split.held_out), Format.PROMPT_COMPLETION)


def _said(row: Row) -> list[Row]:
    return [message for message in row.get("messages", []) if message["role"] == "assistant"]


DISTANCE = ChartSpec(
    "Distance from the teacher",
    ("eval/teacher_uld", "teacher_uld"),
    "distance",
    "How differently the two go on from the same places in a text, on held-out answers and on those of each step. It "
    "has no unit and depends on the two vocabularies: it should fall.",
)

METHOD = Method(
    slug="gold",
    title="GOLD",
    paradigm=Paradigm.EFFICIENCY,
    branch=BRANCH,
    summary="Teaches a small model what a larger one of another family would say next, whatever its tokenizer.",
    when="The model that does well is of another family, so that its tokens are others. It learns from odds, as in "
    "distill, and is corrected within its own answers.",
    paper=Paper("Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs", "2402.12030"),
    objective="Minimises the distance between what both models would say next, at the places of an answer where a "
    "token of each ends: of tokens spelled alike the Jensen-Shannon divergence, of the others that between their "
    "probabilities in falling order. The odds of tokens that lead to such a place are multiplied. The answer is the "
    "row's, or at a share on_policy of the steps one that the model has just written.",
    formula="L = 1/|G| Σ_{g ∈ G} s · D(p_T(·|g), π(·|g)) + (1 - s) · Σ_r |p_T,(r)(g) - π_(r)(g)| + imitation · L_sft\n"
    "G = the places of y where a token of both ends, s = share of the teacher's tokens that the student has\n"
    "p_(r) = the r-th largest probability of a token that the other has not\n"
    "y = the row's answer, or with probability on_policy drawn from π(·|x)",
    watch=(
        "Vocabularies that share few tokens: ranks say how sure to be, and not of what. Give imitation a weight, or "
        "take seq-kd.",
        "Held-out loss that rises while the distance falls: the teacher says other things than the rows. Read the "
        "samples.",
        "A teacher that was never tuned to chat turns: it reads its own template where it has one.",
        "A weak start: answers of a model that cannot answer teach little. Lower on_policy.",
    ),
    formats=FORMATS,
    config=GoldConfig,
    run=run,
    charts=charts("The distance, and imitation's part. It swings with on_policy.", DISTANCE, "distance"),
    main_fields=(*MAIN_FIELDS[:-1], "on_policy", MAIN_FIELDS[-1]),
    teacher=Teacher.ANY_TOKENIZER,
)
