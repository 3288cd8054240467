"""Retrieval-augmented generation: nothing is trained; questions are answered with and without passages of documents."""

import logging
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal

from polm_core.blocks import DATA, HARDWARE, MAIN, SCHEDULE, OneProcessConfig, setting
from polm_core.context import InterruptedRun, RunContext
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.reasoning.voting import with_band
from polm_core.retrieval.config import AskConfig, ChunkConfig
from polm_core.retrieval.encoder import Encoder
from polm_core.retrieval.passages import NOT_FOUND, Passage, ask_with, cited, holds
from polm_core.retrieval.store import Store, build, keep, kept
from polm_core.rewards.config import ROLLOUTS, PromptedConfig, RewardsConfig
from polm_core.rewards.verifiers import VERIFIERS, final_part
from polm_core.training.encoding import as_asked, encode_prompts, plain_text
from polm_core.training.made import make_rows, rows_made
from polm_core.training.rows import Row, asked, fingerprint, load_documents
from polm_core.training.sampling import Pace, answers_to

logger = logging.getLogger(__name__)

FORMATS = (Format.PROMPT_ANSWER,)
# Of so many questions the answers and passages are kept among the run's samples; those of all are in its rows.
_SHOWN = 500
_WITHOUT = 0
_X = "passages a question is asked with"


class RagConfig(AskConfig, ChunkConfig, PromptedConfig, OneProcessConfig):
    """Settings of answering from documents."""

    verify_by: Literal["contains", "exact", "math"] = setting("contains", group=MAIN)
    """How an answer is known to be right: it `contains` the row's answer, word for word, is it to the letter (`exact`),
    or ends on its number or formula (`math`)."""

    batch_size: int = setting(8, group=MAIN, unit="answers", ge=1, le=4096)
    """Answers that are written at once: more are faster, until memory runs out."""

    max_length: int = setting(2048, group=DATA, unit="tokens", ge=8, le=1_048_576)
    """Longest prompt, passages included. A question that is longer alone is left out; passages that find no room are
    left off, the least near first."""

    max_completion_length: int = setting(64, group=MAIN, unit="tokens", ge=1, le=32_768)
    """Longest answer; what is not finished by then is cut off."""

    sampled: bool = setting(False, group=ROLLOUTS)
    """Draw the answers at random; off takes the likeliest token each time."""

    temperature: float = setting(1.0, group=ROLLOUTS, step=0.1, gt=0, le=10)
    """Randomness of the answers, where they are drawn."""

    eval_rows: int = setting(200, group=SCHEDULE, unit="rows", ge=1, le=100_000)
    """Most held-out questions that are answered: the more there are, the narrower the bands."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Processes of the run. One, for the answers are written by one."""

    @property
    def answers_to_each(self) -> int:
        return 2

    @property
    def added_tokens(self) -> int:
        return self.top_k * self.chunk_tokens


def run(config: RagConfig, context: RunContext) -> dict[str, float]:
    """Index the documents, answer the questions that are left, and return the accuracies with and without them."""
    from polm_core.training.loading import training_device
    from polm_core.training.rollouts import check_prompts, prompt_rows
    from polm_core.training.setup import bring_writer, read_data

    split, tokenizer = read_data(config, context, FORMATS)
    documents = load_documents(context.spec)
    encoder = Encoder(str(training_device(config)))
    rows = _readable(prompt_rows(tokenizer, asked(split), config), encoder, config)
    check_prompts(len(rows), config)
    store = _indexed(documents, encoder, config, context)
    context.phase("finding passages")
    vectors = encoder.encode_questions([plain_text(row["prompt"]) for row in rows])
    found = [store.nearest(vector, top_k=config.top_k, min_score=config.min_score) for vector in vectors]
    model = bring_writer(config, context)
    context.phase("answering")
    context.progress(total_steps=len(rows))
    answerer = Answerer(config, context, model, tokenizer, found)
    try:
        made = make_rows(context, config, rows, answerer.answer, batch_size=config.batch_size)
    except InterruptedRun:
        _tell(config, context, rows_made(context), answerer.pace)
        raise
    _tell(config, context, made, answerer.pace)
    context.progress(step=len(rows))
    context.phase("done")
    return dict(context.latest)


def _readable(rows: Sequence[Row], encoder: Encoder, config: RagConfig) -> list[Row]:
    """The questions that can be looked up and whose answer can be compared with. Raises `DataError` when none can."""
    short = [row for row in rows if encoder.reads(plain_text(row["prompt"]))]
    if len(short) < len(rows):
        message = "%d of %d questions are longer than the sentence encoder reads and are left out."
        logger.warning(message, len(rows) - len(short), len(rows))
    left = [row for row in short if is_right("", row["answer"], config.verify_by) is not None]
    if len(left) < len(short):
        logger.warning("%d of %d questions have an answer that cannot be verified.", len(short) - len(left), len(short))
    if rows and not left:
        raise DataError(
            "No held-out question is left that can be looked up and whose answer can be compared with.",
            code="data.untrained",
            advice="Ask in fewer words, or set verify_by to contains for answers that are no mathematics.",
        )
    return left


def is_right(text: str, answer: str, by: str) -> bool | None:
    """Whether a text gives the row's answer; None where that cannot be told."""
    if by == "contains":
        return holds(final_part(text), answer) if holds(answer, answer) else None
    given = VERIFIERS[by](text, answer, RewardsConfig())
    return None if given is None else given == 1.0


def _indexed(documents: Sequence[Row], encoder: Encoder, config: RagConfig, context: RunContext) -> Store:
    """The documents in chunks, as the run has kept them or made anew."""
    context.phase("indexing the documents")
    settings = config.model_dump(include=set(ChunkConfig.model_fields))
    made_by = fingerprint({"chunks": settings, "documents": list(documents)})
    store = kept(context.run_dir.root, made_by)
    if store is None:

        def tell(done: int) -> None:
            context.check()
            context.progress(step=done, total_steps=len(documents))

        store = build(documents, encoder, config, tell)
        keep(store, context.run_dir.root, made_by)
    logger.info("%d documents are %d chunks.", len(documents), len(store.chunks))
    context.progress(step=0)
    return store


class Answerer:
    """Answers questions with the passages that were found for them, and without."""

    def __init__(
        self,
        config: RagConfig,
        context: RunContext,
        model: Any,
        tokenizer: Any,
        found: Sequence[Sequence[Passage]],
    ) -> None:
        self.config = config
        self.context = context
        self.model = model
        self.tokenizer = tokenizer
        self.found = found
        self.pace = Pace()

    def answer(self, place: int, rows: Sequence[Row]) -> list[Row]:
        """A row for each of some questions, of which the first stands at `place`, with both answers to it."""
        without = self._write([row["prompt"] for row in rows], place)
        asked_with = [self._prompt(row, found) for row, found in zip(rows, self.found[place:], strict=False)]
        written = iter(self._write([prompt for prompt, passages in asked_with if passages], place))
        made = []
        for index, (row, (_, passages)) in enumerate(zip(rows, asked_with, strict=True)):
            found = self.found[place + index]
            texts = {
                _WITHOUT: without[index].strip(),
                self.config.top_k: next(written).strip() if passages else NOT_FOUND,
            }
            right = {step: bool(is_right(text, row["answer"], self.config.verify_by)) for step, text in texts.items()}
            holding = [holds(passage.text, row["answer"]) for passage in found]
            made.append(
                {
                    **row,
                    "without": texts[_WITHOUT],
                    "with": texts[self.config.top_k],
                    "right_without": right[_WITHOUT],
                    "right_with": right[self.config.top_k],
                    "passages": [
                        {**passage._asdict(), "holds": one} for passage, one in zip(found, holding, strict=True)
                    ],
                    "asked_with": len(passages),
                    "cites": cited(texts[self.config.top_k], len(passages)),
                }
            )
            if place + index < _SHOWN:
                self._show(place + index, made[-1], texts)
        self.context.progress(step=place + len(rows))
        return made

    def _prompt(self, row: Row, found: Sequence[Passage]) -> tuple[Any, Sequence[Passage]]:
        """The question with as many of the passages as there is room for, and these."""
        question = plain_text(row["prompt"])
        for count in range(len(found), 0, -1):
            text = ask_with(self.config.wording, [(one.title, one.text) for one in found[:count]], question)
            prompt = [{"role": "user", "content": text}] if isinstance(row["prompt"], list) else text
            ((encoded,),) = encode_prompts(self.tokenizer, [{"prompt": prompt}])
            if len(encoded.input_ids) <= self.config.max_length:
                return prompt, found[:count]
        return row["prompt"], ()

    def _write(self, prompts: Sequence[Any], place: int) -> list[str]:
        if not prompts:
            return []
        return answers_to(
            self.model,
            self.tokenizer,
            prompts,
            self.config,
            sampled=self.config.sampled,
            seed=self.config.seed + place,
            pace=self.pace,
        )

    def _show(self, place: int, made: Row, texts: dict[int, str]) -> None:
        """Keep both answers to read, the second with its passages."""
        for step, text in texts.items():
            passages = {"passages": made["passages"], "cites": made["cites"]} if step != _WITHOUT else {}
            self.context.log_sample(
                step,
                plain_text(made["prompt"]),
                text,
                reference=made["answer"],
                row=place,
                **passages,
                **as_asked(made["prompt"]),
            )


def _tell(config: RagConfig, context: RunContext, made: Sequence[Row], pace: Pace) -> None:
    """Log how often the answers are right, with bands, on the questions that were answered."""
    if not made:
        return
    context.phase("counting")

    def banded(key: str, values: Sequence[float]) -> dict[str, float]:
        point = with_band(values, config.seed)
        return {key: point.mean, f"{key}/low": point.low, f"{key}/high": point.high}

    without = [float(row["right_without"]) for row in made]
    with_passages = [float(row["right_with"]) for row in made]
    context.log_metrics(_WITHOUT, banded("accuracy", without))
    for count in range(1, config.top_k + 1):
        recalled = [float(any(one["holds"] for one in row["passages"][:count])) for row in made]
        if count < config.top_k:
            context.log_metrics(count, banded("recall", recalled))
    found = {
        **banded("accuracy", with_passages),
        **banded("recall", recalled),
        **banded("accuracy/gain", [after - before for before, after in zip(without, with_passages, strict=True)]),
        "accuracy/without": fmean(without),
        "cited": fmean(bool(row["cites"]) for row in made),
        "found": fmean(bool(row["passages"]) for row in made),
        "questions": float(len(made)),
    }
    context.log_metrics(config.top_k, found | pace.metrics)
    logger.info("Without documents %.3f, with them %.3f are right.", fmean(without), fmean(with_passages))


METHOD = Method(
    slug="rag",
    title="Retrieval-augmented generation",
    paradigm=Paradigm.INTEGRATION,
    branch="Domain adaptation",
    summary="Answers questions with passages of your documents and without, and measures what the documents win.",
    when="Facts that change, or that no model has read. Documents can be exchanged without training. Trains nothing.",
    paper=Paper("Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks", "2005.11401"),
    objective="Optimises nothing: it estimates the share of questions that the model gets right when it reads the "
    "passages nearest to each, and when it reads the question alone.",
    formula="accuracy = 1/|D| Σ_{(x, y) ∈ D} 1[y in answer(x, Z)], answer ~ π(·|x, Z)\n"
    "Z = the top_k chunks z by s(x, z) = cos(E(x), E(z)), of those with s ≥ min_score\n"
    "recall_k = 1/|D| Σ_{(x, y) ∈ D} 1[y in one of the k nearest z]\n"
    "gain = accuracy with Z - accuracy without",
    watch=(
        "Recall that is low: the passage with the answer is not found, and no model can make up for that. Cut smaller "
        "chunks, raise top_k, or lower min_score.",
        "Recall well above accuracy: the passage is there and the model does not use it. Take a stronger model, fewer "
        "passages, or another wording.",
        "Answers that cite nothing, or a passage that does not say it: small models do. Read the run's samples.",
        "Documents that give orders: whoever writes them speaks to the model. The wording says that passages are data, "
        "which a model may still not heed.",
    ),
    formats=FORMATS,
    config=RagConfig,
    run=run,
    charts=(
        ChartSpec(
            "Accuracy without and with passages",
            ("accuracy",),
            "share of questions",
            "At 0 the model reads the question alone, at top_k the passages too. The bands are 95 % by bootstrap over "
            "questions.",
            x=_X,
            band=True,
        ),
        ChartSpec(
            "Recall",
            ("recall",),
            "share of questions",
            "How often the answer stands in one of the k nearest passages: what a perfect reader would reach. A line "
            "that has gone flat wins nothing by more passages.",
            x=_X,
            band=True,
        ),
        ChartSpec(
            "What the documents win",
            ("accuracy/gain",),
            "share of questions",
            "Accuracy with passages less that without, question by question. A band that holds 0 may be chance.",
            x=_X,
            band=True,
        ),
    ),
    main_fields=("top_k", "chunk_tokens", "overlap", "min_score", "max_completion_length", "verify_by", "wording"),
    makes_checkpoints=False,
    takes_documents=True,
)
