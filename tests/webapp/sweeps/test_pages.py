"""The pages of sweeps: the form keeps what was typed and says what is wrong; the page shows what was found."""

from typing import Any

import pytest
from django.test import Client

from tests.support.sweeps import carry_out, end, make_sweep, running, trials
from webapp.accounts.access import Actor
from webapp.accounts.models import User
from webapp.runs.models import Run
from webapp.sweeps.models import Sweep
from webapp.sweeps.services import sweep_advance, sweep_stop

pytestmark = pytest.mark.django_db

GRID = {"strategy": "grid", "space": {"batch_size": [2, 4], "seed": [1, 2, 3]}, "max_trials": None}
HTMX = {"HX-Request": "true"}


@pytest.fixture
def sweep(actor: Actor) -> Sweep:
    return make_sweep(actor, **GRID)


def _choices(sweep: Sweep, *rows: tuple[str, str], **values: str) -> dict[str, str]:
    run = trials(sweep)[0].run
    chosen = {"method": "sft", "model": str(run.model_id), "dataset": str(run.dataset_version.dataset_id)}
    for place, (path, text) in enumerate(rows):
        chosen |= {f"vary.{place}.path": path, f"vary.{place}.values": text}
    return {"settings_of": "sft", "metric": "eval/loss", "max_trials": "6", **chosen, **values}


def test_the_launch_page_hands_its_choices_over(pages: Client, sweep: Sweep) -> None:
    launch = pages.get("/runs/new?method=sft").content.decode()
    assert 'formaction="/sweeps/new"' in launch
    posted = {name: value for name, value in _choices(sweep).items() if not name.startswith(("metric", "max"))}
    page = pages.post("/sweeps/new", {**posted, "config.max_steps": "7", "config.learning_rate": "0.001"})
    text = page.content.decode()
    assert 'value="0.0001 .. 0.01"' in text
    assert 'name="config.max_steps" id="config.max_steps" value="7"' in text
    assert not page.context["missing"]


def test_it_is_started_with_lists_and_ranges(pages: Client, sweep: Sweep) -> None:
    rows = ("learning_rate", "1e-5 .. 1e-3"), ("batch_size", "2 to 8"), ("lr_scheduler", "linear, cosine")
    rows += (("packing", "on, off"),)
    answer = pages.post(
        "/sweeps/new",
        _choices(
            sweep,
            *rows,
            launch="yes",
            prune="on",
            direction="max",
            **{"vary.0.scale": "log", "vary.1.step": "2", "name": "mine"},
        ),
    )
    made = Sweep.objects.get(name="mine")
    assert answer.url == f"/sweeps/{made.pk}"
    assert made.space == {
        "learning_rate": {"min": 1e-5, "max": 1e-3, "log": True},
        "batch_size": {"min": 2, "max": 8, "step": 2, "log": False},
        "lr_scheduler": ["linear", "cosine"],
        "packing": [True, False],
    }
    assert (made.max_trials, made.prune, made.direction, made.strategy) == (6, True, "max", "tpe")
    sweep_advance(made.pk)
    assert trials(made)[0].run.config["learning_rate"] == trials(made)[0].params["learning_rate"]


@pytest.mark.parametrize(
    ("rows", "values", "said"),
    [
        ([("learning_rat", "1, 2")], {}, "Did you mean learning_rate"),
        ([("learning_rate", "")], {}, "Give values with commas between them"),
        ([("", "1, 2")], {}, "Choose a setting"),
        ([("learning_rate", "0.1"), ("learning_rate", "0.2")], {}, "stands above already"),
        ([("learning_rate", "0.1 .. 5")], {}, "Must be at most 1, not 5"),
        ([("learning_rate", "fast")], {}, "Must be a number"),
        ([("learning_rate", "0.1 .. x")], {}, "must be a finite number"),
        ([("batch_size", "0, 2")], {}, "Must be at least 1"),
        ([("adapter.r", "2, 4")], {"config.adapter.type": "none"}, "Has no effect while adapter.type is none"),
        ([("learning_rate", "0.1 .. 0.2")], {"strategy": "grid"}, "Needs a step in a grid"),
        ([("seed", "1, 2")], {}, "Must be at most 2"),
        ([("seed", "1, 2")], {"max_trials": "many"}, "Must be a whole number"),
        ([("seed", "1, 2")], {"max_trials": "2", "parallel": "0"}, "Must be from 1 to 100"),
        ([("seed", "1, 2")], {"max_trials": "2", "metric": "x" * 201}, "Must name a metric"),
        ([("seed", "1, 2")], {"max_trials": "2", "priority": "99"}, "From -10 to 10"),
        ([("seed", "1, 2")], {"max_trials": "2", "config.epochs": "0"}, "Must be above 0"),
    ],
)
def test_what_is_wrong_stands_at_its_place_and_nothing_typed_is_lost(
    pages: Client, sweep: Sweep, rows: list[tuple[str, str]], values: dict[str, str], said: str
) -> None:
    answer = pages.post("/sweeps/new", _choices(sweep, *rows, launch="yes", **values))
    text = answer.content.decode()
    assert answer.status_code == 422
    assert said in text
    assert all(f'value="{typed}"' in text for row in rows for typed in row if typed)
    assert Sweep.objects.count() == 1


def test_the_number_of_trials_and_their_time_are_told_while_choosing(pages: Client, sweep: Sweep) -> None:
    def told(**values: str) -> Any:
        return pages.post("/sweeps/new", _choices(sweep, ("seed", "1, 2, 3"), **values), headers=HTMX).context["form"]

    assert (told(strategy="grid").count, told(strategy="random").count) == (3, 6)
    assert told().seconds is None
    run = trials(sweep)[0].run
    end(trials(sweep)[0], 1.0)
    ended = Run.objects.get(pk=run.pk)
    Run.objects.filter(pk=run.pk).update(started_at=ended.finished_at.replace(microsecond=0))
    assert told(strategy="grid", parallel="2").seconds is not None
    assert told(metric="eval/accuracy").direction == "max"


def test_the_page_shows_what_was_found_in_few_queries(
    pages: Client, actor: Actor, sweep: Sweep, django_assert_max_num_queries: Any
) -> None:
    assert "Four trials that differ" in pages.get(f"/sweeps/{sweep.pk}").content.decode()
    carry_out(sweep, lambda params: params["batch_size"] + params["seed"] / 100)
    with django_assert_max_num_queries(12):
        page = pages.get(f"/sweeps/{sweep.pk}?sort=-value")
    text = page.content.decode()
    assert "6 of 6 trials have ended" in text
    assert [entry.trial.number for entry in page.context["entries"]] == [6, 5, 4, 3, 2, 1]
    assert page.context["best"].number == 1
    assert page.context["importances"][0].field == "batch_size"
    assert 'aria-sort="descending"' in text
    for sort in ("seed", "-number", "state", "time", "nonsense", "-batch_size"):
        assert pages.get(f"/sweeps/{sweep.pk}?sort={sort}&page=9", headers=HTMX).status_code == 200
    run = trials(sweep)[0].run
    assert f"/sweeps/{sweep.pk}" in pages.get(f"/runs/{run.pk}").content.decode()


def test_the_list_takes_as_many_queries_for_many_as_for_one(
    pages: Client, actor: Actor, sweep: Sweep, django_assert_max_num_queries: Any
) -> None:
    run = running(sweep)[0].run
    for place in range(3):
        dataset = run.dataset_version.dataset_id
        make_sweep(actor, name=f"sweep {place}", model=str(run.model_id), dataset=dataset)
    with django_assert_max_num_queries(9):
        text = pages.get("/sweeps/", headers=HTMX).content.decode()
    assert text.count("<tr>") == 5


def test_an_empty_list_says_what_to_do(pages: Client, signed_in: Any, viewer: User) -> None:
    assert 'href="/sweeps/new"' in pages.get("/sweeps/").content.decode()
    text = signed_in(viewer).get("/sweeps/").content.decode()
    assert "When a member of the team starts one" in text
    assert 'href="/sweeps/new"' not in text


def test_it_is_stopped_gone_on_with_and_deleted(pages: Client, actor: Actor, sweep: Sweep) -> None:
    place = f"/sweeps/{sweep.pk}"
    assert "Stop sft-sweep-1?" in pages.get(place).content.decode()
    assert pages.post(f"{place}/stop").url == place
    assert "Go on" in pages.get(place).content.decode()
    pages.post(f"{place}/resume")
    sweep_advance(sweep.pk)
    assert len(running(sweep)) == 1
    sweep_stop(actor=actor, sweep=sweep)
    assert pages.post(f"{place}/delete").url == "/sweeps/"
    assert "its runs are kept" in pages.get("/sweeps/").content.decode()
