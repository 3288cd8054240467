"""The rows of datasets that nobody uploaded, as their derivation says: written to a file for the preparing process."""

import time
from pathlib import Path
from typing import Any

import orjson

from polm_core.data.rows import ROWS_NAME
from webapp import artifacts
from webapp.datasets.derivations import (
    AnswersDerivation,
    ChoiceDerivation,
    ConversionDerivation,
    MixtureDerivation,
    TaskDerivation,
)
from webapp.datasets.leases import Claim, version_progress
from webapp.datasets.selectors import rows_keys
from webapp.errors import Invalid, NotFound
from webapp.runs.answers import answer_rows

PROGRESS_SECONDS = 1.0


def derived_job(claim: Claim, folder: Path) -> dict[str, Any]:
    """Those fields of the job that say where the rows come from, which are written down where they have to be.

    Raises NotFound when what they come from is gone, Invalid for no rows.
    """
    match claim.derivation:
        case TaskDerivation(choice=choice):
            return {"task": choice.model_dump()}
        case MixtureDerivation() as mixture:
            return {"mixture": {"sources": _mixed(mixture, folder), "seed": mixture.seed}}
        case ConversionDerivation(source=source):
            return {"source": _rows_of(claim, folder, "converted"), "convert_from": source.value}
        case ChoiceDerivation(format=format_, choice=choice, rows=rows):
            kept = {"choice": choice.model_dump(), "rows": rows}
            return {"source": _rows_of(claim, folder, "chosen from"), "convert_from": format_.value, **kept}
        case AnswersDerivation(format=format_) as answers:
            return {"source": str(_answers(claim, answers, folder)), "convert_from": format_.value}
    raise ValueError("the rows are not made of others")


def _mixed(derivation: MixtureDerivation, folder: Path) -> list[dict[str, Any]]:
    keys = rows_keys([part.version for part in derivation.parts])
    if gone := [part.name for part in derivation.parts if part.version not in keys]:
        raise NotFound(f"{' and '.join(gone)} is deleted, so it cannot be mixed in.", advice="Mix what is there.")
    paths = [_stored_rows(keys[part.version], folder / f"part-{n}") for n, part in enumerate(derivation.parts)]
    return [
        {"path": str(path), "rows": part.rows, "take": part.take}
        for path, part in zip(paths, derivation.parts, strict=True)
    ]


def _rows_of(claim: Claim, folder: Path, deed: str) -> str:
    if not claim.rows_key:
        raise NotFound(f"The dataset whose rows were to be {deed} is deleted.", advice="Upload the rows again.")
    return str(_stored_rows(claim.rows_key, folder / "source"))


def _answers(claim: Claim, derivation: AnswersDerivation, folder: Path) -> Path:
    """Answers of a run behind the rows that are there, each a line of JSON."""
    path = folder / "source"
    rows = answer_rows(derivation)
    told, added = time.monotonic(), 0
    if claim.rows_key:
        fetched(f"{claim.rows_key}/{ROWS_NAME}", path)
    with path.open("ab") as file:
        for row in rows:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            added += 1
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                version_progress(claim, {"phase": "collecting", "rows": added, "bytes_done": 0, "bytes_total": 0})
    if not added:
        raise Invalid(
            "No answer fits what was asked for, so there are no rows.",
            code="data.no-answers",
            advice="Lower the reward or the margin that is asked for, or choose answers by hand.",
        )
    return path


def _stored_rows(rows_key: str, path: Path) -> Path:
    key = f"{rows_key}/{ROWS_NAME}"
    if artifacts.is_local():
        stored = artifacts.local_folder(key)
        if not stored.is_file():
            raise NotFound("The rows that these are made of are no longer in the artifact store.")
        return stored
    return fetched(key, path)


def fetched(key: str, path: Path) -> Path:
    """A copy of a stored file at `path`. Raises NotFound."""
    with path.open("wb") as file:
        for piece in artifacts.chunks(key):
            file.write(piece)
    return path
