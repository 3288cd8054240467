"""A verdict on a file for the command line: what it is, and whether a method can train on it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from polm_core.data.convert import compatible
from polm_core.data.mapping import Mapping
from polm_core.data.prepare import prepare
from polm_core.data.report import PrepareJob, PrepareReport, Status
from polm_core.data.rows import read_rows
from polm_core.data.values import truncated
from polm_core.formats import Format

_SHOWN_ROWS = 3
_SHOWN_PROBLEMS = 10


def check_file(path: Path | str, formats: Sequence[Format] = (), mapping: Mapping | None = None) -> dict[str, Any]:
    """Prepare a file into a folder that is thrown away, and say whether a method that takes `formats` can use it.

    Answers `{"ok", "reason", "target", "report", "rows"}`: `target` is the format the rows are used in, `report` a
    `PrepareReport` as JSON types, `rows` the first canonical rows, shortened. Never raises for a bad file.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="polm-check-") as folder:
        out = Path(folder) / "out"
        report = prepare(PrepareJob(source=path.absolute(), filename=path.name, out=out, mapping=mapping))
        rows = read_rows(out, 0, _SHOWN_ROWS) if report.status == Status.READY else []
    ok, target, reason = _verdict(report, formats)
    return {
        "ok": ok,
        "reason": reason,
        "target": target,
        "report": report.model_dump(mode="json"),
        "rows": [truncated(row) for row in rows],
    }


def _verdict(report: PrepareReport, formats: Sequence[Format]) -> tuple[bool, Format | None, str]:
    if report.format is None or report.status != Status.READY:
        error = report.error or {}
        return False, None, f"{error.get('message', '')} {error.get('advice', '')}".strip()
    if not formats:
        return True, report.format, "The file is good."
    verdict = compatible(formats, report.format)
    readable = [other.format for other in report.alternatives if compatible(formats, other.format).ok]
    if not verdict.ok and readable:
        return False, None, f"{verdict.reason} With a mapping it could also be read as {readable[0]}."
    return verdict.ok, verdict.target, verdict.reason


def describe(result: dict[str, Any]) -> str:
    """What `check_file` answers, as text for a terminal."""
    report = result["report"]
    lines = [("usable: " if result["ok"] else "not usable: ") + result["reason"]]
    if report["format"]:
        lines.append(f"format: {report['format']} (confidence {report['confidence']:.0%}): {report['why']}")
    if report["mapping"]:
        columns = ", ".join(f"{role} <- {path}" for role, path in report["mapping"]["columns"].items())
        lines.append(f"mapping: {columns}")
    lines.append(f"rows: {report['rows_used']:,} of {report['rows_total']:,} used")
    lines += [f"  {count:,} x {rule}" for rule, count in report["problem_counts"].items()]
    for problem in report["problems"][:_SHOWN_PROBLEMS]:
        place = f"row {problem['row']:,}" if problem["row"] else "file"
        lines.append(f"  {place}: {problem['message']} {problem['remedy']}")
    lines += [f"row {place}: {orjson.dumps(row).decode()}" for place, row in enumerate(result["rows"], 1)]
    return "\n".join(lines)
