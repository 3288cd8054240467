"""Data selection: the starting model scores the rows, and is fine-tuned on the part of them with the most to teach."""

import logging
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, ClassVar, Literal

from polm_core.blocks import DATA, HARDWARE, MAIN, OneProcessConfig, setting
from polm_core.context import RunContext
from polm_core.errors import DataError
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.feedback import tell_of_rows
from polm_core.methods.efficiency.teaching import BRANCH
from polm_core.methods.fine_tuning.sft import CHARTS, FORMATS, SupervisedConfig, fine_tune
from polm_core.training.encoding import Encoded, as_asked, encode_rows, plain_text, prompt_of
from polm_core.training.made import make_rows
from polm_core.training.rows import Row, Split
from polm_core.training.scoring import mean_losses

logger = logging.getLogger(__name__)

# So many of the rows are kept to read among the run's samples, with their scores; all scores are in `made.jsonl`.
_SHOWN = 200
# At this difficulty the prompt is of no help with its answer, so the two do not belong together.
_UNHELPFUL = 1.0


class SelectDataConfig(SupervisedConfig, OneProcessConfig):
    """Settings of data selection with supervised fine-tuning on what is kept."""

    # The model is scored with as it is, before virtual tokens stand in front of what it reads.
    takes_soft_prompts: ClassVar[bool] = False

    keep_share: float = setting(0.5, group=MAIN, unit="share of rows", step=0.05, gt=0, le=1)
    """Share of the training rows that are kept; 1 keeps all that have a score."""

    score: Literal["ifd", "perplexity"] = setting("ifd", group=MAIN, source="arXiv 2308.12032")
    """`ifd` is how hard it is to follow the prompt: the loss of the answer after the prompt by that of the answer
    alone. Rows of 1 and more, where the prompt is of no help, are left out. `perplexity` is how surprising the answer
    is after its prompt (arXiv 2309.04564)."""

    keep_from: Literal["high", "middle", "low"] = setting("high", group=DATA, source="arXiv 2308.12032")
    """Which scores are kept: the highest have the most to teach, and hold the mistakes too; by perplexity the `middle`
    is the safer choice."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Training processes. One, for the rows are scored by one."""


def run(config: SelectDataConfig, context: RunContext) -> dict[str, float]:
    """Score the rows, train on those that are kept and return the final metrics."""
    from polm_core.training.setup import Model, bring_model, read_data, ready_to_write

    split, tokenizer = read_data(config, context, FORMATS)
    model, adapter = bring_model(config, context)
    model = ready_to_write(model, config, context)
    context.phase("scoring the rows")

    def scored(place: int, rows: Sequence[Row]) -> list[Row]:
        found = encode_rows(tokenizer, rows, split.format, "answers")
        scores = score_rows(model, list(found), config)
        return [{"place": place + index, "score": score} for index, score in enumerate(scores)]

    made = make_rows(context, config, split.train, scored, batch_size=config.batch_size)
    scores = [row["score"] for row in made]
    places = kept_places(scores, config)
    _tell(context, split, scores, places)
    kept = split._replace(train=[split.train[place] for place in places])
    return fine_tune(
        config, context, kept, tokenizer, loss_on="answers", packing_strategy="bfd", brought=Model(model, adapter)
    )


def score_rows(model: Any, rows: Sequence[Encoded], config: SelectDataConfig) -> list[float | None]:
    """The score of each row; None where there is no answer to score within the longest length."""
    cut = [(row.input_ids[: config.max_length], row.trained[: config.max_length]) for row in rows]
    after_prompt = mean_losses(model, cut)
    if config.score == "perplexity":
        return [math.exp(min(loss, 100.0)) if loss is not None else None for loss in after_prompt]
    answers = [[token for token, on in zip(ids, trained, strict=True) if on] for ids, trained in cut]
    alone = mean_losses(model, [(answer, [True] * len(answer)) for answer in answers])
    return [
        loss / by_itself if loss is not None and by_itself else None
        for loss, by_itself in zip(after_prompt, alone, strict=True)
    ]


def kept_places(scores: Sequence[float | None], config: SelectDataConfig) -> list[int]:
    """The places of the rows to train on, in their order. Raises `DataError` when none has a score to go by."""
    highest = _UNHELPFUL if config.score == "ifd" else math.inf
    known = [(score, place) for place, score in enumerate(scores) if score is not None and math.isfinite(score)]
    fitting = [(score, place) for score, place in known if score < highest]
    left_out = len(scores) - len(fitting)
    if left_out:
        logger.warning("%d of %d rows have no score, or a prompt that is of no help.", left_out, len(scores))
    if not fitting:
        raise DataError(
            f"None of the {len(scores)} rows can be chosen: {len(known)} have a score, and at none of them the prompt "
            "helps with the answer."
            if known
            else f"No row has an answer to score within its first {config.max_length} tokens.",
            code="data.untrained",
            advice="Score by perplexity, or take a model that has learned to follow prompts."
            if known
            else "Raise max_length, or check that rows end with an answer of the assistant.",
        )
    order = [place for _, place in sorted(fitting)]
    count = min(len(order), max(1, round(len(scores) * config.keep_share)))
    first = {"low": 0, "middle": (len(order) - count) // 2, "high": len(order) - count}[config.keep_from]
    return sorted(order[first : first + count])


def _tell(context: RunContext, split: Split, scores: Sequence[float | None], places: Sequence[int]) -> None:
    """Log what was chosen, and keep some rows to read; a run that goes on has told it before."""
    if context.spec.resume is not None:
        return
    known = [score for score in scores if score is not None and math.isfinite(score)]
    chosen = set(places)
    tell_of_rows(
        context,
        {
            "made/kept": len(places) / len(scores),
            "made/score": fmean(known),
            "made/score/kept": fmean(score for place in places if (score := scores[place]) is not None),
        },
    )
    for place, (row, score) in enumerate(zip(split.train[:_SHOWN], scores, strict=False)):
        prompt, answer = prompt_of(row, split.format)
        context.log_sample(
            0,
            plain_text(prompt),
            answer,
            group=place,
            place=0,
            rewards={},
            reward=score,
            advantage=None,
            note="Kept" if place in chosen else "Left out",
            by="dataset",
            **as_asked(prompt),
        )


METHOD = Method(
    slug="select-data",
    title="Data selection",
    paradigm=Paradigm.EFFICIENCY,
    branch=BRANCH,
    summary="Scores your rows with the model itself, and fine-tunes it on the part with the most to teach.",
    when="You have more rows than time, or rows of mixed quality. Half of them is often as good as all, in half the "
    "steps.",
    paper=Paper("From Quantity to Quality: Boosting LLM Performance with Self-Guided Data Selection", "2308.12032"),
    objective="Minimises the loss of supervised fine-tuning on a share of the rows: those whose answers stay hard for "
    "the model although it has read the prompt (or surprise it most, or neither most nor least).",
    formula="L = -1/|T| Σ_{t ∈ T} log π(y_t|x, y_{<t}), over rows of the highest s(x, y)\n"
    "s = log π_ref(y|x) / log π_ref(y) for ifd, exp(-1/|y| log π_ref(y|x)) for perplexity",
    watch=(
        "Mistakes among the hardest rows: what is wrong or garbled is hard as well. Read the kept ones in the run's "
        "samples; set keep_from to middle when there are many.",
        "Held-out loss above that of a run on all rows after the same epochs: too little was kept. Raise keep_share.",
        "A kind of row that is gone: rows are scored one by one, so an easy kind may be left out whole.",
    ),
    formats=FORMATS,
    config=SelectDataConfig,
    run=run,
    charts=(
        CHARTS[0],
        ChartSpec(
            "Rows that are kept",
            ("made/kept",),
            "share of rows",
            "Below keep_share when too few rows have a score that counts; the log says how many.",
        ),
        ChartSpec(
            "Scores",
            ("made/score", "made/score/kept"),
            "score",
            "The mean score of all rows and of those kept. The further apart, the more the choice is one.",
        ),
        *CHARTS[1:],
    ),
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "keep_share", "score", "adapter.type"),
)
