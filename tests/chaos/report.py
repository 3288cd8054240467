"""The tables of a campaign: rows of this run beside those of earlier ones, newest first to count."""

import json
from typing import Any

from tests.support.studio import ROOT

DOCS = ROOT / "docs"
VAR = ROOT / "var"
CHECKS = ("lost", "twice", "points", "orphans", "half checkpoints")
HEAD = """# Faults

What `make chaos` found: real faults against a real studio, with the embedded Postgres and Valkey, two worker machines
(each a launcher with a state directory of its own) and short runs of mixed methods on a tiny model, each with a fixed
seed. `make chaos ONLY=worker-sigkill` repeats one row, `SHORT=1` the quick ones. A row stands until it is
repeated: rows may be of different versions of the code.

After each fault: **lost** runs that did not end well (a run that must outlast a minute's outage has very many steps
and is stopped in the end); runs worked on by two processes **at once**, as ten looks a second at the kernel's process
table saw it; **points** in Postgres that are not the lines written, each once; training processes left over
(**orphans**); listed checkpoints that are not whole in the store (**half**). All must be 0. **Recovery** is the time
from the end of the fault (from its beginning where a machine is gone or frozen) until every run has gone beyond what it
had logged, or has ended; it holds the steps repeated since the last checkpoint. Figures depend on how busy the machine
is. A jump of the database's clock is a shift of every lease by as much: nothing else in the studio is timed by it.

| fault | what is done | runs | lost | at once | points | orphans | half | recovery | bar | |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def save(rows: list[dict[str, Any]], order: list[str]) -> None:
    """Write this run's rows to `var/`, and merge them into the tables under `docs/`."""
    VAR.mkdir(exist_ok=True)
    (VAR / "chaos.json").write_text(_json(rows))
    known = DOCS / "chaos.json"
    merged = {row["name"]: row for row in (json.loads(known.read_text()) if known.exists() else [])}
    merged |= {row["name"]: row for row in rows}
    kept = [merged[name] for name in order if name in merged]
    known.write_text(_json(kept))
    (DOCS / "chaos.md").write_text(HEAD + "".join(_line(row) for row in kept))


def _json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=1) + "\n"


def _line(row: dict[str, Any]) -> str:
    start = f"| {row['name']} | {row['what']} |"
    if row["figure"] is None:
        return f"{start} {row.get('runs', '')} | | | | | | | | {row['note']} |\n"
    counts = " | ".join(str(row[check]) for check in CHECKS)
    verdict = "ok" if row["ok"] else "**not met**"
    return f"{start} {row['runs']} | {counts} | {row['figure']:.1f} s | {row['bar']} s | {verdict} |\n"
