"""Knowledge editing: facts that a model holds are changed one after another, in the weights of one layer."""

import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from pydantic import Field

from polm_core.blocks import MAIN, OPTIMISER, GenerationConfig, OneProcessConfig, setting
from polm_core.context import InterruptedRun, RunContext, RunSpec
from polm_core.data.edits import edit_row
from polm_core.data.problems import RowProblem
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.preflight_report import Entry, Example, Report, shown_tokens, token_stats
from polm_core.training.made import make_rows, rows_made
from polm_core.training.rows import Row, dataset_of, load_rows

logger = logging.getLogger(__name__)

FORMATS = (Format.EDIT,)
# Of so many edits the model's own words are kept, before and after.
_SHOWN = 4
_SHOWN_TOKENS = 12
_LONGEST = 512
# Tokens of a text that the model writes by itself.
_TEXT = 128


class EditConfig(OneProcessConfig):
    """Settings of knowledge editing."""

    max_edits: int = setting(20, group=MAIN, unit="edits", ge=1, le=200)
    """Most edits that are made, the first of the dataset. Each leaves the model a little less sure of all else: a few
    dozen in one layer, and it forgets what it knew."""

    layer: Literal["auto"] | Annotated[int, Field(ge=0, le=1000)] = setting(
        "auto", group=MAIN, source="ROME, arXiv 2202.05262, figure 2"
    )
    """The layer whose weights are changed, counted from 0; `auto` takes the one at a quarter of the depth, where facts
    about a subject are looked up."""

    stats_tokens: int = setting(
        4096, group=MAIN, unit="tokens", source="about three times the width", ge=64, le=10_000_000
    )
    """Tokens of text that the model writes itself, to learn what the layer is used for otherwise: the more, the less an
    edit touches that. At least as many as its feed-forward width."""

    edit_steps: int = setting(25, group=MAIN, unit="steps", source="ROME, appendix E.5", ge=1, le=1000)
    """Most steps in search of what makes the model say the target."""

    learning_rate: float = setting(0.5, group=MAIN, source="ROME, appendix E.5", gt=0, le=10)
    """Size of these steps."""

    kl_weight: float = setting(0.0625, group=OPTIMISER, source="ROME, appendix E.5", step=0.01, ge=0, le=100)
    """Pull towards what the model says of the subject otherwise."""

    max_change: float = setting(4.0, group=MAIN, source="ROME, appendix E.5", step=0.5, gt=0, le=100)
    """Longest change of what the layer says at the subject, by its own length."""

    contexts: int = setting(4, group=OPTIMISER, unit="texts", source="ROME uses 20", ge=0, le=64)
    """Other texts before the prompt, after which the target has to follow too."""

    batch_size: int = setting(32, group=OPTIMISER, unit="texts", ge=1, le=4096)
    """Texts that are written or measured at once: lower it when memory runs out."""


class Facts:
    """The edits of a run with everything they are measured by."""

    def __init__(self, tokenizer: Any, edits: Sequence[Row]) -> None:
        from polm_core.training.editing import probe

        self.edits = list(edits)
        self.targets = [probe(tokenizer, row["prompt"], row["target"]) for row in edits]
        self.paraphrases = [
            probe(tokenizer, text, row["target"]) for row in edits for text in row.get("paraphrases", ())
        ]
        others = [one for row in edits for one in row.get("neighbours", ())]
        self.neighbours = [probe(tokenizer, one["prompt"], one["target"]) for one in others]


class Measure:
    """How the edits hold, against what the model made of the neighbours before."""

    def __init__(self, model: Any, facts: Facts, batch_size: int) -> None:
        self.model = model
        self.facts = facts
        self.batch_size = batch_size
        self._before: list[list[int]] | None = None

    def __call__(self) -> dict[str, float]:
        """The metrics now; the first call is that before any edit."""
        from polm_core.training.editing import read_probes

        facts, read = self.facts, partial(read_probes, self.model, batch_size=self.batch_size)
        targets = read(facts.targets)
        found = {
            "efficacy": fmean(one.is_target for one in targets),
            "probability": fmean(one.probability for one in targets),
        }
        if facts.paraphrases:
            found["paraphrase"] = fmean(one.is_target for one in read(facts.paraphrases))
        if facts.neighbours:
            neighbours = read(facts.neighbours)
            likeliest = [one.likeliest for one in neighbours]
            self._before = likeliest if self._before is None else self._before
            found["neighbourhood"] = fmean(now == then for now, then in zip(likeliest, self._before, strict=True))
            found["perplexity"] = math.exp(fmean(loss for one in neighbours for loss in one.losses))
        return found


def edits_of(rows: Sequence[Row]) -> list[Row]:
    """The rows as edits. Raises `DataError` naming the first that is none."""
    edits = []
    for number, row in enumerate(rows, 1):
        said = [str(row[name]) for name in ("prompt", "subject", "target")]
        try:
            edits.append(edit_row(*said, paraphrases=row.get("paraphrases"), neighbours=row.get("neighbours")))
        except RowProblem as problem:
            raise DataError(f"Row {number}: {problem.message}", code=problem.rule, advice=problem.advice) from problem
    return edits


def run(config: EditConfig, context: RunContext) -> dict[str, float]:
    """Make the edits, or those that are left, save the edited model and return how they hold."""
    from transformers import set_seed

    from polm_core.training.editing import Memory, RankOne, Search
    from polm_core.training.loading import load_tokenizer, load_writer
    from polm_core.training.merging import check_parent, check_precision
    from polm_core.training.setup import ready_to_write

    set_seed(config.seed)
    context.phase("reading the data")
    rows, _ = load_rows(dataset_of(context.spec), FORMATS)
    edits = edits_of(rows[: config.max_edits])
    check_parent(context.spec.model)
    tokenizer = load_tokenizer(context.spec.model)
    context.check()
    context.phase("loading the model")
    model = ready_to_write(load_writer(context.spec.model), config, context)
    check_precision(context.spec.model, model.config.to_dict())
    context.phase("measuring")
    facts = Facts(tokenizer, _unknown(model, tokenizer, edits, config, context))
    measure = Measure(model, facts, config.batch_size)
    before = measure()
    total = len(facts.edits)
    context.progress(total_steps=total)
    memory = Memory(model, tokenizer, config.layer, context)
    context.phase("reading what the model writes")
    memory.learn_keys(config.stats_tokens, config.batch_size, config.seed)
    search = Search(config.edit_steps, config.learning_rate, config.kl_weight, config.max_change, config.contexts)
    done = 0

    def catch_up(made: Sequence[Row]) -> None:
        nonlocal done
        for row in made[done:]:
            memory.write(RankOne(row["column"], row["row"]))
            done += 1

    def make(place: int, chosen: Sequence[Row]) -> list[Row]:
        nonlocal done
        if place == 0:
            context.log_metrics(0, before)
            _tell(context, model, tokenizer, facts.edits, 0)
        catch_up(rows_made(context)[:place])
        context.phase("editing")
        change = memory.find(chosen[0], search)
        memory.write(change)
        done += 1
        found = measure()
        context.log_metrics(done, found)
        context.progress(step=done, total_steps=total)
        logger.info("Edit %d of %d: efficacy %.2f", done, total, found["efficacy"])
        return [{"prompt": chosen[0]["prompt"], **change._asdict()}]

    try:
        catch_up(make_rows(context, config, facts.edits, make, batch_size=1))
    except InterruptedRun:
        catch_up(rows_made(context))
        if done == 0:
            raise
    context.latest.update(measure())
    context.progress(step=done, total_steps=total)
    _tell(context, model, tokenizer, facts.edits, done)
    _save(context, model, tokenizer, done)
    context.phase("done")
    return dict(context.latest)


def _unknown(model: Any, tokenizer: Any, edits: Sequence[Row], config: EditConfig, context: RunContext) -> list[Row]:
    """The edits whose target the model does not say already. Raises `DataError` when there is none."""
    from polm_core.training.editing import probe, read_probes

    probes = [probe(tokenizer, row["prompt"], row["target"]) for row in edits]
    said = read_probes(model, probes, config.batch_size)
    left = [row for row, one in zip(edits, said, strict=True) if not one.is_target]
    context.latest["known"] = float(len(edits) - len(left))
    if len(left) < len(edits):
        logger.warning("%d of %d targets are what the model says already.", len(edits) - len(left), len(edits))
    if not left:
        raise DataError(
            "The model says every target already: there is nothing to edit.",
            code="data.known",
            advice="Write targets that are not the model's own answers.",
        )
    return left


def _tell(context: RunContext, model: Any, tokenizer: Any, edits: Sequence[Row], step: int) -> None:
    """Keep how the model goes on from some prompts, paraphrases and neighbours."""
    from polm_core.training.sampling import generate

    asked = []
    for row in edits[:_SHOWN]:
        asked.append((row["prompt"], row["target"]))
        asked += [(text, row["target"]) for text in row.get("paraphrases", ())[:1]]
        asked += [(one["prompt"], one["target"]) for one in row.get("neighbours", ())[:1]]
    options = GenerationConfig().model_copy(update={"max_new_tokens": _SHOWN_TOKENS})
    prompts = [prompt for prompt, _ in asked]
    for (prompt, target), text in zip(
        asked, generate(model, tokenizer, prompts, options, longest=_LONGEST, seed=0), strict=True
    ):
        context.log_sample(step, prompt, text, reference=target.strip())


def _save(context: RunContext, model: Any, tokenizer: Any, step: int) -> None:
    from polm_core.training.reporting import complete_checkpoint

    context.phase("saving")
    with TemporaryDirectory(prefix=".edited-", dir=context.run_dir.root) as scratch:
        draft = Path(scratch) / "model"
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        complete_checkpoint(context, draft, step, "language")


def preflight(config: EditConfig, spec: RunSpec, report: Report) -> None:
    """How the edits look to the model, and what making them will need."""
    from polm_core.estimate import Answers, estimate_answers, machine_flops, model_shape
    from polm_core.training.editing import encode_edit
    from polm_core.training.loading import has_accelerator, load_tokenizer
    from polm_core.training.merging import check_parent

    rows, _ = load_rows(dataset_of(spec), FORMATS)
    edits = edits_of(rows)
    check_parent(spec.model)
    tokenizer = load_tokenizer(spec.model)
    shape = model_shape(spec.model)
    encoded = [encode_edit(tokenizer, edit) for edit in edits]
    report.rows_total, report.rows_used = len(edits), min(len(edits), config.max_edits)
    report.duplicate_rows = len(edits) - len({row["prompt"] for row in edits})
    report.tokens = token_stats([len(one.input_ids) for one in encoded], 1.0)
    report.first_example = Example(tokens=shown_tokens(encoded[0]))
    report.steps = report.rows_used
    report.warnings += [entry for applies, entry in _advice(config, report, shape.intermediate) if applies]
    probes = sum(1 + len(row.get("paraphrases", ())) + len(row.get("neighbours", ())) for row in edits)
    # Each step of a search reads its texts, and goes back through them.
    passes = report.steps * (3 * config.edit_steps * (config.contexts + 2) + probes)
    flops = machine_flops("accelerator" if has_accelerator(config) else "cpu")
    read = estimate_answers(shape, Answers(passes, report.tokens.p95), flops=flops)
    written = estimate_answers(
        shape, Answers(-(-config.stats_tokens // _TEXT), 1, _TEXT, at_once=config.batch_size), flops=flops
    )
    report.memory_bytes = max(read.memory_bytes, written.memory_bytes) + 3 * 8 * shape.intermediate**2
    report.disk_bytes = shape.parameters * 4
    report.seconds = round(read.seconds + written.seconds, 3)


def _advice(config: EditConfig, report: Report, width: int) -> list[tuple[bool, Entry]]:
    return [
        (
            report.rows_used < report.rows_total,
            Entry(
                code="data.many_edits",
                message=f"The first {report.rows_used} of {report.rows_total} edits are made.",
                remedy="Raise max_edits, and watch the neighbours: many edits wear a model out.",
            ),
        ),
        (
            report.duplicate_rows > 0,
            Entry(
                code="data.duplicates",
                message=f"{report.duplicate_rows:,} prompts are there twice: the last target stays.",
                remedy="Keep one row for each prompt.",
            ),
        ),
        (
            config.stats_tokens < width,
            Entry(
                code="config.few_tokens",
                message=f"{config.stats_tokens} tokens are fewer than the layer is wide, {width}: an edit may touch "
                "more than it should.",
                remedy=f"Set stats_tokens to {width} or more.",
            ),
        ),
    ]


METHOD = Method(
    slug="knowledge-edit",
    title="Knowledge editing (ROME)",
    paradigm=Paradigm.INTEGRATION,
    branch="Domain adaptation",
    summary="Changes single facts that a model holds, in the weights of one layer, and leaves the rest as it is.",
    when="A few facts are wrong or out of date, and you want no training for them. For many, take "
    "continued-pretraining or retrieval.",
    paper=Paper("Locating and Editing Factual Associations in GPT", "2202.05262"),
    objective="Minimises the change of a layer's memory for the keys of other texts, under the condition that it holds "
    "the new value for the key of the subject: the value from which the target follows.",
    formula="W = W_0 + δ (C^-1 k)ᵀ / (kᵀ C^-1 k), C = E[k kᵀ] over texts that the model writes\n"
    "δ = argmin_δ -1/N Σ_j log π(y|x_j, v + δ) + kl_weight · KL(π_ref ‖ π), |δ| at most max_change · |v|",
    watch=(
        "`neighbourhood` below 0.9: the edits spill over. Make fewer, raise `stats_tokens`, or lower `max_change`.",
        "`efficacy` below 1: a target was not found. Raise `edit_steps` or `max_change`, or try another `layer`.",
        "`paraphrase` that stays low: the model repeats the sentence and has not learned the fact. Raise `contexts`.",
        "Prompts are completed as they stand, without chat turns. What holds there may not hold in a chat: try it in "
        "the playground.",
        "The other direction is not edited: who is asked what is in Rome may not hear of the Eiffel Tower.",
    ),
    formats=FORMATS,
    config=EditConfig,
    run=run,
    charts=(
        ChartSpec(
            "Edits that hold",
            ("efficacy", "paraphrase"),
            "share",
            "How often the target is what the model says, over all edits of the run, and for other wordings. Efficacy "
            "climbs by one edit a step; where it falls, an edit has undone an earlier one.",
            x="edits made",
        ),
        ChartSpec(
            "Neighbours that stay",
            ("neighbourhood",),
            "share",
            "How often the model says of a neighbour what it said before the first edit. Below 0.9 the edits spill "
            "over.",
            x="edits made",
        ),
        ChartSpec(
            "Perplexity of the neighbours",
            ("perplexity",),
            "perplexity",
            "How surprising the neighbours' sentences are. It should hardly move; it rises as the model wears out.",
            x="edits made",
        ),
        ChartSpec(
            "Probability of the targets",
            ("probability",),
            "probability",
            "The mean over all edits: how sure the model is of what it was taught.",
            x="edits made",
        ),
    ),
    main_fields=("max_edits", "layer", "edit_steps", "learning_rate", "max_change", "stats_tokens"),
    preflight=preflight,
)
