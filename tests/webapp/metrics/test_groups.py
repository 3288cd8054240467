"""Runs as one line: what they are grouped by, and mean and band against numpy on the points as they were logged."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.support.api import ApiClient
from tests.support.runs import make_run
from tests.webapp.metrics.conftest import START, Log
from webapp.accounts.models import Team
from webapp.metrics.groups import group_runs, t_bound
from webapp.runs.models import Run

SEEDS = 4
STEPS = 3000


def compare(api: ApiClient, runs: list[Run], **query: object) -> Any:
    ids = "&".join(f"run={run.pk}" for run in runs)
    return api.get(f"/compare?{ids}&" + "&".join(f"{name}={value}" for name, value in query.items()))


@pytest.fixture
def points() -> np.ndarray:
    """Seeds by steps."""
    return np.random.default_rng(7).normal(np.linspace(3, 1, STEPS), 0.3, (SEEDS, STEPS))


@pytest.fixture
def seeds(team: Team, log: Log, points: np.ndarray) -> list[Run]:
    runs = []
    for seed, values in enumerate(points):
        run = make_run(team, f"seed {seed}", config={"seed": seed, "adapter": {"r": 8}})
        log(run, {"loss": enumerate(values.tolist()), "epoch": ((step, step / 1000) for step in range(STEPS))})
        runs.append(run)
    return runs


def bounds(means: np.ndarray, band: str) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the band over the first axis, by scipy and numpy alone."""
    if band == "range":
        return means.min(axis=0), means.max(axis=0)
    spread = means.std(axis=0, ddof=1)
    if band == "ci":
        spread = spread * stats.t.ppf(0.975, len(means) - 1) / math.sqrt(len(means))
    return means.mean(axis=0) - spread, means.mean(axis=0) + spread


@pytest.mark.parametrize("band", ["std", "range", "ci"])
@pytest.mark.parametrize("limit", [100, 5000])
def test_mean_and_band_are_those_of_the_logged_points(
    api: ApiClient, seeds: list[Run], points: np.ndarray, band: str, limit: int
) -> None:
    answer = compare(api, seeds, key="loss", group="config.adapter.r", band=band, points=limit)
    assert answer.status_code == 200
    (line,) = answer.json()["groups"]
    assert (line["name"], line["value"], line["runs"]) == ("8", 8, [str(run.pk) for run in seeds])
    assert len(line["step"]) <= limit
    edges = [*line["step"], STEPS]
    means = np.array([points[:, low:high].mean(axis=1) for low, high in pairwise(edges)]).T
    assert line["width"] == np.diff(line["step"])[0]
    low, high = bounds(means, band)
    for name, wanted in (("mean", means.mean(axis=0)), ("min", low), ("max", high)):
        assert np.array(line[name]) == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert set(line["members"]) == {SEEDS}
    assert line["count"][:-1] == np.diff(line["step"]).tolist()


def test_runs_of_different_lengths_share_their_buckets(api: ApiClient, team: Team, log: Log) -> None:
    short, long = make_run(team, "short"), make_run(team, "long")
    log(short, {"loss": [(step, 1.0) for step in range(100)]})
    log(long, {"loss": [(step, 3.0) for step in range(6400)]})
    (line,) = compare(api, [short, long], key="loss", group="method", points=100).json()["groups"]
    assert line["step"] == list(range(0, 6400, 64))
    assert line["mean"] == [2.0, 2.0, *[3.0] * 98]
    assert line["members"] == [2, 2, *[1] * 98]
    # One run has no spread.
    assert line["max"][:3] == [pytest.approx(2 + math.sqrt(2), abs=1e-3)] * 2 + [None]
    window = compare(api, [short, long], key="loss", group="method", points=100, **{"from": 60, "to": 139}).json()
    assert window["groups"][0]["step"] == list(range(60, 140))
    assert window["groups"][0]["members"] == [2] * 40 + [1] * 40
    beyond = compare(api, [short, long], key="loss", group="method", **{"from": 10_000}).json()
    assert beyond["groups"][0]["mean"] == []


@pytest.mark.parametrize(("axis", "per_step"), [("epoch", (0.01, 0.02)), ("relative", (1, 1)), ("wall", (1, 1))])
def test_over_another_axis_runs_are_read_at_the_same_places(
    api: ApiClient, team: Team, log: Log, axis: str, per_step: tuple[float, float]
) -> None:
    runs = []
    for factor in (1, 2):
        run = make_run(team, f"faster {factor}")
        steps = range(100 // factor + 1)
        log(run, {"epoch": ((step, step * factor / 100) for step in steps), "loss": ((step, step) for step in steps)})
        runs.append(run)
    (line,) = compare(api, runs, key="loss", group="method", x=axis, points=101, band="range").json()["groups"]
    base = START if axis == "wall" else 0
    x = np.array(line["x"]) - base
    each = [
        np.where(x <= 100 / factor * speed + 1e-9, x / speed, np.nan)
        for factor, speed in zip((1, 2), per_step, strict=True)
    ]
    assert line["mean"] == pytest.approx(np.nanmean(each, axis=0), abs=0.1)
    assert line["min"] == pytest.approx(np.nanmin(each, axis=0), abs=0.1)
    assert line["members"] == np.count_nonzero(~np.isnan(each), axis=0).tolist()


def test_an_axis_that_nobody_logged_has_no_places(api: ApiClient, seeds: list[Run]) -> None:
    (line,) = compare(api, seeds, key="loss", group="method", x="num_tokens").json()["groups"]
    assert (line["step"], line["x"], line["mean"]) == ([], [], [])


def test_what_is_no_number_has_no_part_and_is_counted(api: ApiClient, team: Team, log: Log) -> None:
    runs = [make_run(team, name) for name in "ab"]
    log(runs[0], {"loss": [(1, 1.0), (2, math.nan), (3, math.inf)]})
    log(runs[1], {"loss": [(1, 3.0), (2, 3.0), (3, math.nan)]})
    (line,) = compare(api, runs, key="loss", group="method").json()["groups"]
    assert (line["mean"], line["members"]) == ([2.0, 3.0, None], [2, 1, 0])
    assert line["not_finite"] == [[2, 1], [3, 2]]


def test_groups_are_ordered_by_value_and_equal_numbers_are_one(team: Team) -> None:
    values: list[Any] = [10, 2.0, 2, True, "adam", [1, 2], None]
    runs = [
        make_run(team, str(place), config={} if value is None else {"x": value}) for place, value in enumerate(values)
    ]
    found = group_runs(runs, "config.x")
    assert [(one.name, len(one.runs)) for one in found] == [
        ("2", 2),
        ("10", 1),
        ("1, 2", 1),
        ("adam", 1),
        ("on", 1),
        ("not set", 1),
    ]
    assert len({one.id for one in found}) == len(found)


def test_a_run_counts_in_the_group_of_each_tag(team: Team) -> None:
    both, one, none = (make_run(team, "r", tags=tags) for tags in (["a", "b"], ["b"], []))
    found = {group.name: group.runs for group in group_runs([both, one, none], "tag")}
    assert found == {"a": [both], "b": [both, one], "not set": [none]}


@pytest.mark.parametrize("field", ["model", "dataset", "method", "config.adapter.r"])
def test_what_runs_can_be_grouped_by(team: Team, field: str) -> None:
    run = make_run(team, config={"adapter": {"r": 8}})
    names = {"model": "base", "dataset": str(run.dataset_version), "method": "sft", "config.adapter.r": "8"}
    assert [group.name for group in group_runs([run], field)] == [names[field]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"group": "config.nothing"}, "group"),
        ({"group": "adapter.r"}, "group"),
        ({"group": "team"}, "group"),
        ({"group": "method", "band": "sem"}, "band"),
        ({"from": 5, "to": 4}, "from"),
    ],
)
def test_what_cannot_be_read_is_named(api: ApiClient, seeds: list[Run], query: dict[str, Any], field: str) -> None:
    answer = compare(api, seeds, key="loss", **query)
    assert answer.status_code == 422
    assert field in answer.json()["error"]["fields"]


def test_groups_cost_as_many_queries_as_runs(
    api: ApiClient, team: Team, log: Log, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    runs = [make_run(team, f"r{number}", config={"seed": number % 5}) for number in range(50)]
    for one in runs[::5]:
        log(one, {"loss": [(1, 1.0), (2, 2.0)]})
    with django_assert_max_num_queries(6):
        answer = compare(api, runs, key="loss", group="config.seed").json()
    # Groups whose runs have not logged it are left out.
    assert [group["name"] for group in answer["groups"]] == ["0"]
    assert answer["runs"] == []


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 10, 31, 99])
def test_the_bound_of_student_s_t(freedom: int) -> None:
    assert t_bound(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-7)
