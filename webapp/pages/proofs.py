"""What `make proof` measured, read from the table that comes with the product."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from django.conf import settings


@dataclass(frozen=True)
class Proof:
    """What a method moved on held-out rows; before and after are means over the seeds."""

    metric: str
    unit: str
    before: float
    after: float
    bar: str
    ok: bool
    model: str
    rows: int
    held_out_rows: int
    steps: int
    seeds: int
    seconds: float


def proof_of(slug: str) -> Proof | None:
    """The proof of a method; None when it has not been measured."""
    return _table(settings.BASE_DIR / "docs" / "proof.json").get(slug)


@lru_cache(maxsize=4)
def _table(path: Path) -> dict[str, Proof]:
    """Read once: the table changes with the product alone."""
    if not path.is_file():
        return {}
    return {
        entry["name"]: Proof(
            metric=entry["metric"],
            unit=entry["unit"],
            before=entry["before"],
            after=entry["after"],
            bar=entry["bar"],
            ok=entry["ok"],
            model=entry["model"],
            rows=entry["rows"],
            held_out_rows=entry["held_out_rows"],
            steps=entry["steps"],
            seeds=len(entry["seeds"]),
            seconds=entry["seconds"],
        )
        for entry in json.loads(path.read_text(encoding="utf-8"))
    }
