"""`python -m tests.soak` (`make soak`): MINUTES=60 of steady work, then what grew and what got slower.

20 runs log 20 keys 5 times a second through the studio's own worker, 50 clients listen to their streams, and light work
goes on beside. The first sixth is the warm-up; the second sixth is compared with the last, by medians. Memory is what a
process has written and holds alone. The rows go into docs/benchmarks.md, all that was sampled into var/soak.json.
"""

import asyncio
import json
import os
import random
import sys
import time
from dataclasses import replace

import django
import httpx
import psutil
import psycopg

from tests.bench.rows import ROOT, Row, as_dicts, machine, publish
from tests.bench.studio import add_tiny, running_studio
from tests.soak.simulated import KEYS, SimulatedChild
from tests.soak.watch import Samples, connections_of, fork_server, left_unvacuumed, median, memory, p95, processes_of
from tests.support.lookalikes import alpaca
from tests.support.studio import RunningStudio

RUNS = 20
RATE = 5.0
CLIENTS = 50
LOOK_SECONDS = 10.0
LIGHT_SECONDS = 15.0
GROWTH = 1.05
SLOWER = 1.5


class Soak:
    """One soak: the studio, the runs that are played, the clients, and what is seen of them."""

    def __init__(self, studio: RunningStudio, minutes: float) -> None:
        self.studio = studio
        self.seconds = minutes * 60
        self.children: dict[str, SimulatedChild] = {}
        self.samples = Samples()
        self.started = time.time()
        self.problems: list[str] = []
        self.unvacuumed: list[str] = []

    def prepare(self) -> None:
        """Queue the runs, each with its process at work already: the worker that claims one takes it over."""
        from django.db import transaction

        from webapp.accounts.access import Actor
        from webapp.accounts.models import User
        from webapp.runs.services import run_create

        model = add_tiny(self.studio)
        dataset = self.studio.upload("rows", "rows.json", alpaca(60))["id"]
        actor = Actor(User.objects.get(username="admin"))
        for number in range(RUNS):
            with transaction.atomic():
                run = run_create(actor=actor, method="sft", model=model, dataset=dataset, name=f"soak {number}")
                place = self.studio.run_dir(str(run.pk))
                self.children[str(run.pk)] = SimulatedChild(place, seconds=self.seconds, rate=RATE)
        for pk in self.children:
            self.studio.wait_for(
                lambda pk=pk: self.studio.run(pk)["status"] != "queued", 300, "the worker to take over"
            )

    async def run(self) -> None:
        self.started = time.time()
        work = [self._write(), self._watch(), self._light_work(), *(self._listen() for _ in range(CLIENTS))]
        tasks = [asyncio.create_task(one) for one in work]
        await asyncio.sleep(self.seconds)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                self.problems.append(repr(result))

    async def _write(self) -> None:
        due = time.monotonic()
        while True:
            for child in self.children.values():
                child.log()
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _listen(self) -> None:
        pk = random.choice(list(self.children))
        child = self.children[pk]
        headers = dict(self.studio.api.headers)
        async with (
            httpx.AsyncClient(headers=headers, timeout=60, trust_env=False) as client,
            client.stream("GET", f"{self.studio.url}/api/v1/runs/{pk}/events") as stream,
        ):
            async for line in stream.aiter_lines():
                if line.startswith("data:") and (step := _step(line)) in child.written_at:
                    now = time.time()
                    self.samples.add("latency", now, now - child.written_at[step])

    async def _light_work(self) -> None:
        number = 0
        while True:
            # Not at once: a series that has no point yet is not found.
            await asyncio.sleep(LIGHT_SECONDS)
            number += 1
            await asyncio.to_thread(self._one_round, number)

    def _one_round(self, number: int) -> None:
        studio, pk = self.studio, random.choice(list(self.children))
        began = time.time()
        for path in ("/runs", f"/runs/{pk}", f"/runs/{pk}/metrics/metric/3?points=500", f"/runs/{pk}/logs?tail=100"):
            answer = studio.api.get(path)
            if answer.status_code != 200:
                self.problems.append(f"{path}: {answer.status_code}")
        self.samples.add("reading", time.time(), time.time() - began)
        dataset = studio.upload(f"light {number}", "light.json", alpaca(200, seed=number))
        if dataset["status"] != "ready":
            self.problems.append(f"a dataset is {dataset['status']}")
        studio.api.delete(f"/datasets/{dataset['id']}")

    async def _watch(self) -> None:
        assert self.studio.process is not None
        root = psutil.Process(self.studio.process.pid)
        with psycopg.connect(_database_url(), autocommit=True) as database:
            while True:
                now = time.time()
                found = processes_of(root)
                if server := fork_server(self.studio.var):
                    found["fork server"] = server
                for name, process in found.items():
                    self.samples.add(f"memory: {name}", now, memory(process))
                self.samples.add("connections", now, connections_of(database))
                self.unvacuumed = left_unvacuumed(database)
                await asyncio.sleep(LOOK_SECONDS)

    # --- what came of it --------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """End the runs and have the worker read the last of their files."""
        for child in self.children.values():
            child.end()
        for pk in self.children:
            self.studio.wait_for_run(pk, seconds=300)

    def rows(self) -> list[Row]:
        sixth = self.seconds / 6
        early = (self.started + sixth, self.started + 2 * sixth)
        late = (self.started + 5 * sixth, self.started + 6 * sixth)
        rows = []
        for name in self.samples.names():
            if name.startswith("memory: "):
                before, after = (median(self.samples.between(name, *span)) for span in (early, late))
                rows.append(_compared(name, before, after, "MB", GROWTH, "grows at most 5 %"))
        before, after = (p95(self.samples.between("latency", *span)) * 1000 for span in (early, late))
        rows.append(_compared("line written to event heard, p95", before, after, "ms", SLOWER, "steady: at most 1.5x"))
        before, after = (p95(self.samples.between("reading", *span)) * 1000 for span in (early, late))
        rows.append(_compared("four reads over the API, p95", before, after, "ms", SLOWER, "steady: at most 1.5x"))
        before, after = (median(self.samples.between("connections", *span)) for span in (early, late))
        rows.append(_compared("database connections", before, after, "", 1.0, "none leaked"))
        unvacuumed = ", ".join(self.unvacuumed)
        rows.append(
            Row("tables that autovacuum left behind", len(self.unvacuumed), "", "0", not unvacuumed, unvacuumed)
        )
        rows.append(self._points())
        rows.append(
            Row("refused or failed", len(self.problems), "", "0", not self.problems, "; ".join(self.problems[:3]))
        )
        return [replace(row, name=f"Soak, {row.name}") for row in rows]

    def _points(self) -> Row:
        missing = 0
        for pk, child in self.children.items():
            summary = self.studio.run(pk)["summary"]
            counts = [summary.get(f"metric/{key}", {"count": 0})["count"] for key in range(KEYS)]
            missing += sum(abs(child.step - count) for count in counts)
        written = sum(child.step for child in self.children.values()) * KEYS
        return Row("points written and not stored once", missing, "", "0", missing == 0, f"of {written:,} points")


def _compared(name: str, before: float, after: float, unit: str, factor: float, bar: str) -> Row:
    return Row(name, round(after, 1), unit, bar, after <= before * factor, f"{before:.1f} {unit} before".strip())


def _step(line: str) -> int | None:
    try:
        return json.loads(line[5:]).get("step")  # type: ignore[no-any-return]
    except (ValueError, AttributeError):
        return None


def _database_url() -> str:
    from django.conf import settings

    return str(settings.DATABASE_URL)


def main() -> int:
    minutes = float(os.environ.get("MINUTES", "60"))
    with running_studio(POLM_SLOTS=str(RUNS)) as studio:
        os.environ |= {"POLM_VAR": str(studio.var), "DJANGO_SETTINGS_MODULE": "webapp.settings"}
        django.setup()
        soak = Soak(studio, minutes)
        try:
            soak.prepare()
            asyncio.run(soak.run())
            soak.samples.dump(ROOT / "var" / "soak.json", soak.started)
            soak.finish()
            rows = soak.rows()
        finally:
            for child in soak.children.values():
                if child.process.poll() is None:
                    child.process.kill()
    publish("soak", as_dicts(rows), machine=machine(), short=minutes < 60)
    for row in rows:
        print(f"{'met' if row.ok else 'NOT MET':8}{row.name}: {row.figure} {row.unit} ({row.bar}; {row.note})")  # noqa: T201
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
