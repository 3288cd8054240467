"""The card of a dataset: what people write about it as markdown, and what the studio knows to begin with."""

import re

from django.db import transaction
from django.urls import reverse

from polm_core.data.choose import Filter, Split
from polm_core.data.limits import human_bytes
from polm_core.formats import SPECS, Format
from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.accounts.services import audit
from webapp.datasets.derivations import (
    AnswersDerivation,
    ChoiceDerivation,
    ConversionDerivation,
    MixtureDerivation,
    TaskDerivation,
    derivation_of,
)
from webapp.datasets.models import Dataset, DatasetCard, DatasetVersion, Origin, VersionStatus
from webapp.datasets.services import clean_text
from webapp.errors import SavedMeanwhile

MAX_CARD = 50_000

_MARKUP = re.compile(r"([\\`*_\[\]<>#|~])")


def card_of(dataset: Dataset) -> DatasetCard:
    """The dataset's card with who saved it last; an empty one, of number 0, before anybody has."""
    return DatasetCard.objects.select_related("updated_by").filter(dataset=dataset).first() or DatasetCard(
        dataset=dataset
    )


def clean_card(text: str) -> str:
    """The text with lines that end in one way. Raises Invalid."""
    return clean_text("body", text.replace("\r\n", "\n"), MAX_CARD)


def card_save(*, actor: Actor, dataset: Dataset, base: int, body: str) -> DatasetCard:
    """Save a card that was opened at number `base`; a text that is as it was stays as it is.

    Raises SavedMeanwhile when the present number is another one, Invalid for a text that is not accepted.
    """
    actor.require(dataset.team_id, Role.MEMBER, "dataset")
    body = clean_card(body)
    with transaction.atomic():
        Dataset.objects.select_for_update(no_key=True).get(pk=dataset.pk)  # the first card has no row to hold yet
        card = card_of(dataset)
        if body == card.body:
            return card
        if base != card.number:
            raise SavedMeanwhile(card, card.number, card.updated_by)
        card.body, card.number, card.updated_by = body, card.number + 1, actor.user
        card.save()
        detail = {"version": card.number}
        audit(actor=actor, team_id=dataset.team_id, verb="dataset.card", target=dataset, detail=detail)
    return card


def suggested_card(version: DatasetVersion) -> str:
    """What the studio knows of a version and its dataset, as the beginning of a card."""
    dataset = version.dataset
    sections = {
        "What it is": [_what(version), _plain(dataset.description)],
        "Where it is from": [_origin(dataset), _source(version)],
        "Licence": ["Not stated."],
        "How it was made": _made(version),
        "Caveats": _caveats(version),
    }
    parts = [f"# {_plain(dataset.name)}"]
    for title, said in sections.items():
        parts += [f"## {title}", *filter(None, said)]
    return "\n\n".join(parts) + "\n"


def _what(version: DatasetVersion) -> str:
    if version.status != VersionStatus.READY:
        return "Its rows are not ready yet."
    spec = SPECS[Format(version.format)]
    fields = [f"| {name} | {_plain(says)} |" for name, says in spec.columns.items()]
    fields += [f"| {name}, where there is one | {_plain(says)} |" for name, says in spec.optional.items()]
    table = "\n".join(["| Field | Holds |", "|---|---|", *fields])
    return (
        f"{version.rows:,} rows of the format {spec.title.lower()}, as of version {version.number}. {spec.summary}"
        f"\n\n{table}"
    )


def _origin(dataset: Dataset) -> str:
    who = f": {_plain(dataset.origin_model)}" if dataset.origin_model else ""
    if dataset.origin == Origin.UNKNOWN:
        return f"Whether people, a model or a program wrote the rows is not stated{who}."
    return f"{Origin(dataset.origin).label}{who}."


def _source(version: DatasetVersion) -> str:
    """What the rows are made of."""
    origin = version.made_from
    source = "a dataset that was deleted"
    if origin is not None:
        address = f"{reverse('dataset', args=[origin.dataset_id])}?version={origin.number}"
        source = f"[{_plain(origin.dataset.name)}, version {origin.number}]({address})"
    match derivation_of(version.derivation):
        case TaskDerivation() as task:
            level = f", level {task.level}" if task.level is not None else ""
            return f"Made up by {_plain(task.task)}{level}, of reasoning-gym {task.version}, with seed {task.seed}."
        case MixtureDerivation() as mixture:
            parts = [f"- {part.take:,} of the {part.rows:,} rows of {_plain(part.name)}" for part in mixture.parts]
            return "\n".join([f"Mixed by chance, with seed {mixture.seed}, from:", "", *parts])
        case ConversionDerivation() as conversion:
            return f"Converted from {source}, whose format is {SPECS[conversion.source].title.lower()}."
        case ChoiceDerivation(choice=Filter() as rules):
            return f"The rows of {source} that fit: {_plain(rules.says)}."
        case ChoiceDerivation(choice=Split() as split):
            return f"The {split.side} side of {source}, split by {split.by} with seed {split.seed}."
        case AnswersDerivation() as answers:
            added = f", added to the rows of {source}" if origin is not None else ""
            return f"Answers of the model in the run {_plain(answers.run_name)}{added}."
    by = f" by {_plain(str(version.created_by))}" if version.created_by else ""
    size = human_bytes(version.source_bytes)
    return f"Uploaded as {_plain(version.filename)} ({size}){by} on {version.created_at:%Y-%m-%d}."


def _made(version: DatasetVersion) -> list[str]:
    report = version.report
    columns = ((report.get("mapping") or {}).get("columns") or {}).items()
    read = ", ".join(f"{role.replace('_', ' ')} from {_plain(path)}" for role, path in columns)
    total = report.get("rows_total", 0)
    return [
        f"Read: {read}." if read else "",
        f"{version.rows:,} of {total:,} rows could be used." if total > version.rows else "",
        "Who wrote or chose the rows, and how, is not written down yet.",
    ]


def _caveats(version: DatasetVersion) -> list[str]:
    report = version.report
    stats = report.get("stats") or {}
    words = {"duplicates": "rows repeat an earlier one", "equal_pairs": "pairs have equal answers"}
    known = [f"{count:,} rows were left out: {rule}" for rule, count in (report.get("problem_counts") or {}).items()]
    known += [f"{stats[name]:,} {says}" for name, says in words.items() if stats.get(name)]
    return ["\n".join(f"- {_plain(line)}" for line in known) or "None are known."]


def _plain(text: str) -> str:
    """A text on one line that markdown takes as it is."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
