"""The table of proofs: `docs/proof.json`, which the Methods pages read, and `docs/proof.md` beside it."""

import json
from pathlib import Path
from typing import Any

from polm_core.run_dir import write_atomic

DOCS = Path(__file__).resolve().parents[2] / "docs"

_HEAD = """# Proof

What each method moved on rows that it was not trained on: `make proof`, and `make proof METHOD=dpo` for one. Each row
is trained for real, once for each seed, on the studio's own sample data; before and after are means over the seeds,
and every seed has to keep to the bar. Seconds are those of one core for one seed; the seeds run side by side.

| method | held-out metric | before | after | bar | | model | rows | steps | seeds | seconds |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The rows that are there; none when there is no file yet."""
    if not path.is_file():
        return []
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return entries


def merged_entries(old: list[dict[str, Any]], entry: dict[str, Any], order: list[str]) -> list[dict[str, Any]]:
    """`old` with `entry` in place of an earlier one of its name, in the order of `order`."""
    kept = [other for other in old if other["name"] != entry["name"] and other["name"] in order]
    return sorted([*kept, entry], key=lambda item: order.index(item["name"]))


def write_table(entries: list[dict[str, Any]], folder: Path) -> None:
    write_atomic(folder / "proof.json", json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    write_atomic(folder / "proof.md", _HEAD + "".join(f"{_line(entry)}\n" for entry in entries))


def _line(entry: dict[str, Any]) -> str:
    cells = (
        entry["name"],
        f"`{entry['metric']}` ({entry['unit']})",
        f"{entry['before']:.4g}",
        f"{entry['after']:.4g}",
        entry["bar"],
        "met" if entry["ok"] else "**not met**",
        entry["model"],
        f"{entry['rows']:,} + {entry['held_out_rows']:,} held out",
        str(entry["steps"]),
        ", ".join(str(seed) for seed in entry["seeds"]),
        f"{entry['seconds']:.0f}",
    )
    return f"| {' | '.join(cells)} |"
