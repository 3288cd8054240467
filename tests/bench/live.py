"""From a line in a metrics file to a point on the screen: a real run in a real browser, beside 200 open streams."""

import asyncio
import json
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import httpx

from tests.bench.rows import Row
from tests.bench.studio import add_conversations, add_tiny, running_studio
from tests.support.browser import FLAGS, NAMES, wait_until

STREAMS = (20, 200)
SECONDS = 120
# A line every second or so, as runs write them.
LOGGING_STEPS = 200
BAR_MS = 500

# Notes, at each frame that the browser paints, when the curve of the first chart, the loss, reached a step.
WATCH = """() => {
    window.reached = [];
    const look = () => {
        const curve = document.querySelector('#charts .js-plotly-plot').data.find((line) => line.name && line.x.length);
        const last = Number(curve?.x.at(-1) ?? -1);
        if (last > (window.reached.at(-1)?.[0] ?? -1)) window.reached.push([last, Date.now() / 1000]);
        requestAnimationFrame(look);
    };
    look();
}"""


def measure(short: bool) -> list[Row]:
    seconds = SECONDS // 2 if short else SECONDS
    with running_studio() as studio:
        config = {"max_steps": 100_000, "batch_size": 2, "max_length": 256, "logging_steps": LOGGING_STEPS}
        config |= {"generation": {"samples": 0}}
        pk = studio.launch(method="sft", model=add_tiny(studio), dataset=add_conversations(studio), config=config)
        studio.wait_for_step(pk, LOGGING_STEPS)
        found = {streams: _watch(studio, pk, streams, seconds) for streams in STREAMS}
        studio.api.post(f"/runs/{pk}/stop")
        studio.wait_for_run(pk)
    p50, p95, note = found[STREAMS[-1]]
    growth = {f"{streams} open streams": figures[1] for streams, figures in found.items()}
    note = f"{note}; median {p50:.0f} ms."
    return [Row("Log line to painted point, p95", p95, "ms", f"under {BAR_MS}", p95 < BAR_MS, note, growth)]


def _watch(studio: Any, pk: str, streams: int, seconds: int) -> tuple[float, float, str]:
    """The median and the 95th percentile of the milliseconds, and what they are of."""
    with _streams(studio, pk, streams) as counts, _page(studio, pk) as page:
        wait_until(page, "() => document.querySelector('#charts .js-plotly-plot')?.data?.length")
        page.evaluate(WATCH)
        page.wait_for_timeout(1000 * seconds)
        reached = page.evaluate("() => window.reached")
        assert len(counts) == streams, f"only {len(counts)} streams were served"
    written = [json.loads(line) for line in studio.run_dir(pk).joinpath("metrics.jsonl").read_text().splitlines()]
    delays = _delays([(line["step"], line["time"]) for line in written if "loss" in line["values"]], reached)
    gap = statistics.median(later["time"] - line["time"] for line, later in pairwise(written))
    p50, p95 = (1000 * statistics.quantiles(delays, n=20)[place] for place in (9, 18))
    note = f"{len(delays)} lines, one every {gap:.1f} s; {streams} open streams got {sum(counts.values()):,} events"
    return p50, p95, note


def _delays(written: list[tuple[int, float]], reached: list[list[float]]) -> list[float]:
    """For each line that was written while the page was watched, the seconds until it was on the screen."""
    first, last = reached[0][1], reached[-1][0]
    shown = iter(reached)
    step, moment = next(shown)
    delays = []
    for line_step, line_time in written:
        if line_time <= first or line_step > last:
            continue
        while step < line_step:
            step, moment = next(shown)
        delays.append(moment - line_time)
    assert len(delays) >= 20, f"only {len(delays)} lines were seen"
    return delays


@contextmanager
def _page(studio: Any, pk: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, NAMES)))
    link = studio.manage("sign_in_link", "admin").strip().split()[-1]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{studio.url}{link[link.index('/welcome/') :]}")
        page.get_by_role("main").get_by_role("button").click()
        page.wait_for_load_state()
        page.goto(f"{studio.url}/runs/{pk}")
        yield page
        browser.close()


@contextmanager
def _streams(studio: Any, pk: str, streams: int) -> Iterator[dict[int, int]]:
    """So many clients of the run's events; yields how many lines each has got."""
    counts: dict[int, int] = {}
    done = threading.Event()

    async def one(client: httpx.AsyncClient, number: int) -> None:
        async with client.stream("GET", f"{studio.url}/api/v1/runs/{pk}/events") as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line.startswith("event:"):
                    counts[number] = counts.get(number, 0) + 1

    async def hold() -> None:
        headers = {"Authorization": studio.api.headers["Authorization"]}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(headers=headers, limits=limits, timeout=SECONDS + 60, trust_env=False) as client:
            tasks = [asyncio.create_task(one(client, number)) for number in range(streams)]
            while not done.is_set():
                await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        time.sleep(2)
        yield counts
    finally:
        done.set()
        thread.join()
