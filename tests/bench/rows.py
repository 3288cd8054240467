"""A figure against its bar, and the tables they are published in."""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "benchmarks"
THIS_RUN = ROOT / "var" / "benchmarks.json"

_LOAD = "; load over five minutes "

_HEAD = """# Benchmarks

Made by `make bench` (`ONLY=ingest` runs one part, `SHORT=1` a smaller version, marked so). Everything in a part runs
side by side on one machine, which is under *Machine*; figures are medians of paired repeats. Trust ratios more than
absolute figures.
"""


@dataclass(frozen=True)
class Row:
    """One figure. `growth` is how it grows with its work, `note` what a reader must know to judge it."""

    name: str
    figure: float
    unit: str
    bar: str
    ok: bool
    note: str = ""
    growth: Mapping[str, float] = field(default_factory=dict)


def as_dicts(rows: Iterable[Row | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as JSON has them; a part may give plain dictionaries."""
    return [asdict(row) if isinstance(row, Row) else dict(row) for row in rows]


def publish(part: str, rows: Sequence[Mapping[str, Any]], *, machine: str, short: bool) -> None:
    """Put the rows of a part in place of its former ones, in the tables and in this run's own file."""
    new = [{**row, "part": part, "machine": machine, "short": short} for row in rows]
    for path in (DOCS.with_suffix(".json"), THIS_RUN):
        others = [row for row in _read(path) if row["part"] != part]
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(others + new, indent=1) + "\n")
    DOCS.with_suffix(".md").write_text(_page(_read(DOCS.with_suffix(".json"))))


def _read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []


def _page(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [_HEAD, "| What | Figure | Bar | Met |", "|---|---|---|---|"]
    lines += [
        f"| {_title(row)} | {_number(row['figure'])} {row['unit']} | {row['bar']} | {_met(row)} |" for row in rows
    ]
    lines += ["", "## How they grow, and what to know", ""]
    for row in rows:
        growth = ", ".join(f"{size}: {_number(figure)}" for size, figure in (row.get("growth") or {}).items())
        detail = " ".join(part for part in (f"{growth}." if growth else "", row.get("note", "")) if part)
        if detail:
            lines.append(f"- **{_title(row)}** ({row['unit']}): {detail}")
    loads: dict[str, dict[str, str]] = {}
    for row in rows:
        made_on, _, load = row["machine"].partition(_LOAD)
        loads.setdefault(made_on, {})[row["part"]] = load
    for made_on, parts in loads.items():
        busy = ", ".join(f"{part} {load}" for part, load in parts.items())
        lines += [
            "",
            f"Machine: {made_on}. Its load over the five minutes before a part ended, the part's own included: {busy}.",
        ]
    return "\n".join([*lines, ""])


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['name']} (short)" if row["short"] else str(row["name"])


def _met(row: Mapping[str, Any]) -> str:
    return "yes" if row["ok"] else "**no**"


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def machine() -> str:
    """What the figures were made on, and how busy it was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[1]
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, Python"
        f" {platform.python_version()}{_LOAD}{load:.1f}"
    )
