"""Whether a checkpoint's exports are what was trained: `python -m polm_core.parity job.json`.

The job is a `ParityJob`. The same prompts go through the trainer's form, which is the adapter beside its base or the
whole model, and through each export as it is loaded again; each answers greedily. Beside the job `progress.json` tells
how far the check is, and `answer.json` holds a `ParityAnswer`.

No llama.cpp runs here: a GGUF file is read by transformers, which shows what stands in it, tokenizer, template, end
token and weights, and not what an engine makes of it.
"""

import gc
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field

from polm_core.blocks import AdapterConfig, TrainConfig
from polm_core.context import DatasetSpec, ModelSpec
from polm_core.data.completions import ANSWERED
from polm_core.environment import set_environment
from polm_core.errors import ConfigError
from polm_core.export import ExportFormat, Tell, answer_of, progress_file
from polm_core.formats import Format
from polm_core.run_dir import write_atomic
from polm_core.training.encoding import Messages, plain_text, prompt_of, render_chat

PROMPTS = (
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Add 17 and 25, and say how you did it.",
)
MOST_FROM_DATASET = 2
NEW_TOKENS = 24
# Rows that are longer are left out: a check is to be quick.
_LONGEST = 2000
# What is shown on either side of a difference, in characters.
_AROUND = 60

# The divergence from the trained model, at an answer's first token, that the rounding of a format explains, in nats.
# On SmolLM2-135M q8_0 is at most 0.006 away and q4_0 0.58; a model whose weights were 4 bits before loses less.
TOLERANCE = {
    ExportFormat.MERGED: 1e-6,
    ExportFormat.F16: 1e-4,
    ExportFormat.Q8_0: 1e-2,
    ExportFormat.Q4_1: 0.5,
    ExportFormat.Q4_0: 1.0,
}

Verdict = Literal["same", "tolerance", "differs"]


class ParityForm(BaseModel):
    """One export: a folder with a merged model, or a GGUF file."""

    format: ExportFormat
    path: Path


class ParityJob(BaseModel):
    """The checkpoint, its exports, and the prompts: `prompts`, and the first of a dataset's rows."""

    model: ModelSpec
    forms: list[ParityForm]
    prompts: list[str] = Field(default_factory=lambda: list(PROMPTS))
    dataset: DatasetSpec | None = None
    new_tokens: int = NEW_TOKENS


class Split(BaseModel):
    """A text around the place where two differ: what stands before it, the first that differs, and what follows."""

    before: str = ""
    at: str = ""
    after: str = ""


class Difference(BaseModel):
    """Where two sequences part: the place of the first token or character that differs, and both sides of it."""

    place: int
    trained: Split
    export: Split


class PromptReport(BaseModel):
    """One prompt through the trained form and an export. A difference of None is none.

    `logit` is the largest difference between the logits of the answer's first token, `kl` the divergence of the
    export's distribution from the trained one there, in nats; None where the prompts' tokens differ already.
    """

    prompt: str
    text: str
    rendered: Difference | None = None
    tokens: Difference | None = None
    answer: Difference | None = None
    logit: float | None = None
    kl: float | None = None


class FormReport(BaseModel):
    """What an export has kept. `differences` says in words what is wrong, for a verdict of `differs`."""

    format: ExportFormat
    verdict: Verdict
    differences: list[str]
    tolerance: float
    ends: list[str]
    template_same: bool
    prompts: list[PromptReport]
    kl: float | None = None
    logit: float | None = None
    same_answers: int


class ParityReport(BaseModel):
    """What each export has kept, and the trained form's own end tokens."""

    ends: list[str]
    forms: list[FormReport]


class ParityAnswer(BaseModel):
    """The report, or `PolmError.as_dict()`."""

    report: ParityReport | None = None
    error: dict[str, Any] | None = None


class Said(NamedTuple):
    """One prompt through one form: as text, as tokens, the logits after it, and the answer's tokens."""

    text: str
    tokens: list[int]
    logits: Any
    answer: list[int]


@dataclass(frozen=True)
class Form:
    """What one form makes of the prompts; models come and go, this stays."""

    tokenizer: Any
    ends: list[int]
    said: list[Said]

    @property
    def template(self) -> str:
        return str(self.tokenizer.chat_template or "").strip()

    @property
    def eos(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def end_texts(self) -> list[str]:
        return [str(text) for text in self.tokenizer.convert_ids_to_tokens(self.ends)]


def compare(job: ParityJob, tell: Tell) -> ParityReport:
    """Load the forms one after the other and compare each export with the trained one. Raises `ModelError`."""
    prompts = [*([{"role": "user", "content": text}] for text in job.prompts), *_of_dataset(job.dataset)]
    asked: list[str | Messages] = list(prompts)
    tell("the trained form", 0.0)
    trained = _trained(job, asked)
    reports = []
    for place, form in enumerate(job.forms, 1):
        tell(form.format.value, place / (len(job.forms) + 1))
        reports.append(_report(form.format, trained, _exported(form, trained, job, asked), asked))
    return ParityReport(ends=trained.end_texts, forms=reports)


def _of_dataset(dataset: DatasetSpec | None) -> Iterator[str | Messages]:
    """The prompts of a dataset's first rows that are short enough."""
    if dataset is None or dataset.format not in (*ANSWERED, Format.PROMPT):
        return
    with dataset.path.open(encoding="utf-8") as lines:
        asked = (prompt_of(json.loads(line), dataset.format)[0] for line in islice(lines, 100))
        yield from islice((one for one in asked if one and len(plain_text(one)) <= _LONGEST), MOST_FROM_DATASET)


def _trained(job: ParityJob, asked: Sequence[str | Messages]) -> Form:
    """The base with the adapter beside it, in fp32: as it was trained, but for a base that was held in 4 bits."""
    from polm_core.training.adapters import adapter_type
    from polm_core.training.loading import load_model, load_tokenizer
    from polm_core.training.sampling import end_tokens

    tokenizer = load_tokenizer(job.model)
    adapter = AdapterConfig(type=adapter_type(job.model.adapter)) if job.model.adapter is not None else AdapterConfig()
    model = load_model(job.model, TrainConfig(adapter=adapter, precision="fp32")).eval()
    ends = end_tokens(model, tokenizer)
    return Form(tokenizer, ends, _ask(model, tokenizer, ends, asked, job.new_tokens))


def _exported(form: ParityForm, trained: Form, job: ParityJob, asked: Sequence[str | Messages]) -> Form:
    from polm_core.training.gguf_files import read_gguf
    from polm_core.training.loading import load_tokenizer, load_writer
    from polm_core.training.sampling import end_tokens

    gc.collect()  # the model before
    if form.format.is_gguf:
        model, tokenizer, ends = read_gguf(form.path, trained.tokenizer)
    else:
        spec = ModelSpec(path=form.path)
        model, tokenizer = load_writer(spec).eval(), load_tokenizer(spec)
        ends = end_tokens(model, tokenizer)
    return Form(tokenizer, ends, _ask(model, tokenizer, ends, asked, job.new_tokens))


def _ask(model: Any, tokenizer: Any, ends: list[int], asked: Sequence[str | Messages], new_tokens: int) -> list[Said]:
    import torch

    said = []
    limit = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    for prompt in asked:
        raw = isinstance(prompt, str)
        text = prompt if isinstance(prompt, str) else _rendered(tokenizer, prompt)
        tokens = tokenizer(text, add_special_tokens=raw)["input_ids"]
        if not 0 < len(tokens) <= limit - new_tokens:
            problem = f"must leave room: one has {len(tokens)} tokens, the model takes {limit} with the answer"
            raise ConfigError(f"The prompts {problem}.", fields={"prompts": [problem]})
        answer: list[int] = []
        logits, read, cache = None, tokens, None
        with torch.no_grad():
            while len(answer) < new_tokens and not (answer and answer[-1] in ends):
                out = model(torch.tensor([read]).to(model.device), past_key_values=cache, use_cache=True)
                last, cache = out.logits[0, -1].float().cpu(), out.past_key_values
                logits = last if logits is None else logits
                answer.append(int(last.argmax()))
                read = answer[-1:]
        said.append(Said(text, tokens, logits, answer))
    return said


def _rendered(tokenizer: Any, messages: Messages) -> str:
    try:
        return render_chat(tokenizer, messages, add_generation_prompt=True)
    # A template is the model's own code and raises what it likes.
    except Exception as error:
        raise ConfigError(
            f"The model's chat template does not take these prompts: {error}", fields={"prompts": [str(error)]}
        ) from error


def _report(format_: ExportFormat, trained: Form, export: Form, asked: Sequence[str | Messages]) -> FormReport:
    prompts = [
        _prompt_report(plain_text(prompt), trained, export, *both)
        for prompt, *both in zip(asked, trained.said, export.said, strict=True)
    ]
    kls = [one.kl for one in prompts if one.kl is not None]
    report = FormReport(
        format=format_,
        verdict="same",
        differences=[],
        tolerance=TOLERANCE[format_],
        ends=export.end_texts,
        template_same=trained.template == export.template,
        prompts=prompts,
        kl=max(kls, default=None),
        logit=max((one.logit for one in prompts if one.logit is not None), default=None),
        same_answers=sum(one.answer is None for one in prompts),
    )
    report.differences = _differences(report, trained, export)
    if report.differences:
        report.verdict = "differs"
    elif report.same_answers < len(prompts) or format_.is_gguf:
        report.verdict = "tolerance"
    return report


def _differences(report: FormReport, trained: Form, export: Form) -> list[str]:
    """What rounding does not explain. Where weights were rounded, the wording of an answer may change."""
    found = []
    if not report.template_same:
        found.append("The chat template is another.")
    if any(one.rendered for one in report.prompts):
        found.append("A prompt is rendered as another text.")
    if any(one.tokens for one in report.prompts):
        found.append("A prompt becomes other tokens.")
    # A GGUF file names an end or two; engines know the others of a family by their text.
    lost = set(trained.ends) - set(export.ends) if not report.format.is_gguf else {trained.eos} - set(export.ends)
    if lost or set(export.ends) - set(trained.ends):
        mine, theirs = (", ".join(form.end_texts) or "nothing" for form in (trained, export))
        found.append(f"Answers end at {theirs}, and ended at {mine} in training.")
    if report.kl is not None and report.kl > report.tolerance:
        found.append(
            f"The first token's distribution is {report.kl:.2g} nats away; up to {report.tolerance:g} is rounding."
        )
    if not report.format.is_gguf and report.same_answers < len(report.prompts):
        found.append("An answer is worded otherwise, although no weight was rounded.")
    return found


def _prompt_report(prompt: str, trained: Form, export: Form, mine: Said, theirs: Said) -> PromptReport:
    report = PromptReport(prompt=prompt, text=mine.text)
    report.rendered = _texts_part(mine.text, theirs.text)
    report.tokens = _tokens_part(trained.tokenizer, mine.tokens, export.tokenizer, theirs.tokens)
    report.answer = _tokens_part(trained.tokenizer, mine.answer, export.tokenizer, theirs.answer)
    if report.tokens is None:
        # Some converters fill the vocabulary up to a round number.
        size = min(len(mine.logits), len(theirs.logits))
        one, other = mine.logits[:size], theirs.logits[:size]
        report.logit = float((one - other).abs().max())
        log_one, log_other = one.double().log_softmax(-1), other.double().log_softmax(-1)
        report.kl = max(0.0, float((log_one.exp() * (log_one - log_other)).sum()))
    return report


def _texts_part(one: str, other: str) -> Difference | None:
    place = _first_difference(one, other)
    if place is None:
        return None
    return Difference(place=place, trained=_split(list(one), place), export=_split(list(other), place))


def _tokens_part(one_by: Any, one: list[int], other_by: Any, other: list[int]) -> Difference | None:
    place = _first_difference(one, other)
    if place is None:
        return None
    pieces = [[by.decode([token]) for token in tokens] for by, tokens in ((one_by, one), (other_by, other))]
    return Difference(place=place, trained=_split(pieces[0], place), export=_split(pieces[1], place))


def _first_difference(one: Sequence[Any], other: Sequence[Any]) -> int | None:
    if one == other:
        return None
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _split(pieces: Sequence[str], place: int) -> Split:
    before, after = "".join(pieces[:place]), "".join(pieces[place + 1 :])
    return Split(before=before[-_AROUND:], at="".join(pieces[place : place + 1]), after=after[:_AROUND])


def main(job_path: Path) -> None:
    """Carry out the job in the file and write the answer beside it."""
    set_environment()
    folder = job_path.parent
    job = ParityJob.model_validate_json(job_path.read_bytes())
    answer = ParityAnswer()

    def work() -> None:
        answer.report = compare(job, progress_file(folder))

    answer.error = answer_of(work)
    write_atomic(folder / "answer.json", answer.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
