"""What the studio's processes, its database and its listeners show while it works."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import psutil
import psycopg

MEGABYTE = 1024 * 1024


def processes_of(root: psutil.Process) -> dict[str, psutil.Process]:
    """The studio's long-lived processes by what they are."""
    found: dict[str, psutil.Process] = {}
    for process in root.children(recursive=True):
        try:
            name = _name(" ".join(process.cmdline()))
        except psutil.Error:
            continue
        if name and name not in found:
            found[name] = process
    return found


def _name(command: str) -> str:
    for text, name in (
        ("uvicorn", "web"),
        ("-Q runs", "worker for runs"),
        ("-Q light", "worker for light work"),
        (" beat", "scheduler"),
        ("valkey", "broker"),
    ):
        if text in command:
            return name
    return ""


def fork_server(var: Path) -> psutil.Process | None:
    """The fork server lives on its own, outside the studio's tree of processes."""
    try:
        return psutil.Process(json.loads((var / "forkserver.pid").read_text())["pid"])
    except (OSError, ValueError, KeyError, psutil.Error):
        return None


def memory(process: psutil.Process) -> float:
    """What the process has written and holds alone, in MB.

    Pages of programs and libraries would come and go in the sum with other processes that have the same ones loaded.
    """
    return float(sum(area.private_dirty for area in process.memory_maps())) / MEGABYTE


class Samples:
    """Values over time, by name; compared between the first and the last part of the time they cover."""

    def __init__(self) -> None:
        self._values: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, name: str, at: float, value: float) -> None:
        self._values[name].append((at, value))

    def dump(self, path: Path, start: float) -> None:
        """Write all values by name, each with the seconds since `start`."""
        path.write_text(
            json.dumps({name: [[at - start, value] for at, value in of] for name, of in self._values.items()})
        )

    def names(self) -> list[str]:
        return sorted(self._values)

    def between(self, name: str, start: float, end: float) -> list[float]:
        return [value for at, value in self._values[name] if start <= at < end]


def median(values: Iterable[float]) -> float:
    """The median; NaN, which meets no bar, when there is nothing to take it of."""
    ordered = list(values)
    return statistics.median(ordered) if ordered else float("nan")


def p95(values: Iterable[float]) -> float:
    """The 95th percentile; NaN when there is nothing to take it of."""
    ordered = sorted(values)
    if len(ordered) < 2:
        return ordered[0] if ordered else float("nan")
    return statistics.quantiles(ordered, n=20)[-1]


def connections_of(database: psycopg.Connection[tuple[int]]) -> int:
    """Connections to the database, without the one that asks."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    row = database.execute(query).fetchone()
    return row[0] if row else 0


def left_unvacuumed(database: psycopg.Connection[tuple[str]]) -> list[str]:
    """Tables that have more dead rows than autovacuum is told to put up with, and had so for minutes."""
    rows = database.execute(
        """
        SELECT table_.relname FROM pg_stat_user_tables table_
        JOIN pg_class ON pg_class.oid = table_.relid
        CROSS JOIN LATERAL (
            SELECT coalesce(max(option_value::float) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold'),
                    current_setting('autovacuum_vacuum_threshold')::float)
                + greatest(reltuples, 0)
                * coalesce(max(option_value::float) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor'),
                    current_setting('autovacuum_vacuum_scale_factor')::float)
            FROM pg_options_to_table(reloptions)
        ) AS most (dead)
        WHERE n_dead_tup > most.dead
            AND coalesce(greatest(last_autovacuum, last_vacuum), '-infinity') < now() - interval '5 minutes'
            AND n_tup_upd + n_tup_del > 10000
        ORDER BY table_.relname
        """
    ).fetchall()
    return [name for (name,) in rows]
