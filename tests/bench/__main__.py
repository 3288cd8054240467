"""Run the benchmarks: `python -m tests.bench`, all of them or `ONLY=name`; `SHORT=1` for a smaller version.

Each part is a module with `measure(short) -> rows`, and runs in a process of its own.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.rows import ROOT, THIS_RUN, as_dicts, machine, publish

PARTS = ("ingest", "charts", "size", "start", "live", "queue", "memory")


def main() -> int:
    short = os.environ.get("SHORT", "") not in ("", "0")
    only = os.environ.get("ONLY", "")
    if only and only not in PARTS:
        print(f"There is no part {only}; there is {', '.join(PARTS)}.", file=sys.stderr)  # noqa: T201
        return 2
    THIS_RUN.unlink(missing_ok=True)
    failed = []
    for part in [only] if only else PARTS:
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "rows.json"
            command = [sys.executable, "-W", "ignore", "-m", "tests.bench", part, str(answer)]
            done = subprocess.run(command, cwd=ROOT, check=False)
            if done.returncode:
                failed.append(part)
                continue
            rows = json.loads(answer.read_text())
        publish(part, rows, machine=machine(), short=short)
        for row in rows:
            met = "met" if row["ok"] else "NOT MET"
            print(f"{met:8}{row['name']}: {row['figure']:,.4g} {row['unit']} ({row['bar']})")  # noqa: T201
    if failed:
        print(f"These parts failed: {', '.join(failed)}", file=sys.stderr)  # noqa: T201
    return bool(failed)


def _measure(part: str, answer: str) -> int:
    short = os.environ.get("SHORT", "") not in ("", "0")
    rows = importlib.import_module(f"tests.bench.{part}").measure(short)
    Path(answer).write_text(json.dumps(as_dicts(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(_measure(*sys.argv[1:]) if len(sys.argv) > 1 else main())
