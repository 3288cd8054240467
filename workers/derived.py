"""The rows of datasets that nobody uploaded, as their derivation says: written to a file for the preparing process."""

import time
from pathlib import Path

import orjson

from polm_core.data.rows import ROWS_NAME
from webapp import artifacts
from webapp.datasets.derivations import AnswersDerivation, ConversionDerivation, Derivation, TaskDerivation
from webapp.datasets.leases import Claim, version_progress
from webapp.errors import Invalid, NotFound
from webapp.runs.answers import answer_rows

PROGRESS_SECONDS = 1.0


def convert_from(derivation: Derivation | None) -> str | None:
    """The format of the rows that `derived_source` writes; None where the preparing process reads or makes the rows."""
    if derivation is None or isinstance(derivation, TaskDerivation):
        return None
    return (derivation.source if isinstance(derivation, ConversionDerivation) else derivation.format).value


def derived_source(claim: Claim, folder: Path) -> Path:
    """Write the rows, each a line of JSON. Raises NotFound when what they come from is gone, Invalid for no rows."""
    derivation, path = claim.derivation, folder / "source"
    if isinstance(derivation, ConversionDerivation):
        if not claim.rows_key:
            raise NotFound("The dataset whose rows were to be converted is deleted.", advice="Upload the rows again.")
        return _stored_rows(claim, path)
    if not isinstance(derivation, AnswersDerivation):
        raise ValueError("the rows are not made of others")
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


def _stored_rows(claim: Claim, path: Path) -> Path:
    key = f"{claim.rows_key}/{ROWS_NAME}"
    if artifacts.is_local():
        stored = artifacts.local_folder(key)
        if not stored.is_file():
            raise NotFound("The rows that were to be converted are no longer in the artifact store.")
        return stored
    return fetched(key, path)


def fetched(key: str, path: Path) -> Path:
    """A copy of a stored file at `path`. Raises NotFound."""
    with path.open("wb") as file:
        for piece in artifacts.chunks(key):
            file.write(piece)
    return path
