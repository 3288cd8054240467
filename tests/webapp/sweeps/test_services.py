"""Sweeps: begun whole or not at all, a bounded number of trials at a time, going on as their runs end."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from polm_core.errors import ConfigError
from polm_core.run_dir import Outcome
from tests.support import factories
from tests.support.sweeps import LEARNING_RATES, carry_out, end, log, make_sweep, running, trials
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, Membership, Role, User
from webapp.datasets.services import dataset_delete
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from webapp.runs.models import Run, Status
from webapp.runs.services import run_delete, run_resume, run_stop
from webapp.sweeps import services
from webapp.sweeps.models import Sweep, Trial
from webapp.sweeps.pruning import prune_hopeless
from webapp.sweeps.selectors import best_of, sweep_get, sweeps_to_wake

pytestmark = pytest.mark.django_db

GRID = {"strategy": "grid", "space": {"batch_size": [2, 4], "seed": [1, 2, 3]}, "max_trials": None}
OUT_OF_MEMORY = {"code": "out_of_memory", "message": "Out of memory.", "advice": "Lower batch_size.", "fields": {}}


def _state(actor: Actor, sweep: Sweep) -> str:
    return sweep_get(actor, sweep.pk).state


def _states(sweep: Sweep) -> list[str]:
    return [trial.state for trial in trials(sweep)]


# --- starting ---------------------------------------------------------------------------------------------------------


def test_trials_are_ordinary_runs_that_differ_in_what_varies(actor: Actor) -> None:
    sweep = make_sweep(actor, parallel=2, config={"max_steps": 5}, tags=["lr"], priority=3, project="Alignment", **GRID)
    assert (sweep.name, sweep.max_trials, sweep.state, sweep.live) == ("sft-sweep-1", 6, "running", 2)
    first, second = (trial.run for trial in trials(sweep))
    assert [(run.config["batch_size"], run.config["seed"]) for run in (first, second)] == [(2, 1), (2, 2)]
    assert (first.name, first.tags, first.priority, first.project.name) == ("sft-sweep-1 1", ["lr"], 3, "Alignment")
    assert (first.config["max_steps"], first.created_by, first.status) == (5, actor.user, "queued")
    assert AuditEvent.objects.filter(verb="sweep.create", target_id=str(sweep.pk)).exists()


def test_the_same_request_id_gives_the_same_sweep(actor: Actor) -> None:
    sweep = make_sweep(actor, request_id="r")
    again = services.sweep_create(
        actor=actor,
        method="sft",
        model=sweep.request["model"],
        dataset=sweep.request["dataset_version"] and trials(sweep)[0].run.dataset_version.dataset_id,
        space=LEARNING_RATES,
        metric="eval/loss",
        max_trials=8,
        request_id="r",
    )
    assert again.pk == sweep.pk


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"metric": ""}, "metric", "must name a metric"),
        ({"direction": "up"}, "direction", "must be one of min, max"),
        ({"strategy": "magic"}, "strategy", "must be one of grid, random, tpe"),
        ({"max_trials": None}, "max_trials", "must be from 1 to 500"),
        ({"max_trials": 501}, "max_trials", "must be from 1 to 500"),
        ({"max_trials": 5, "space": {"seed": [1, 2]}}, "max_trials", "must be at most 2"),
        ({"parallel": 0}, "parallel", "must be from 1 to 100"),
        ({"strategy": "grid"}, "space.learning_rate", "needs a step in a grid"),
        ({**GRID, "space": {"seed": list(range(21)), "batch_size": list(range(1, 11))}}, "space", "210 combinations"),
        ({"space": {"learning_rate": [0.1, 2]}}, "space.learning_rate", "must be at most 1"),
        ({"config": {"learning_rate": 2}}, "config.learning_rate", "must be at most 1"),
        ({"dataset": "nonsense"}, "dataset", "names no dataset"),
        ({"model": "nonsense"}, "model", "Give starter"),
        ({"name": "n" * 151}, "name", "at most 150"),
        ({"priority": 99}, "priority", "from -10 to 10"),
        ({"labels": ["a,b"]}, "labels", "without commas"),
        ({"gpu_memory_gb": 8, "config": {"devices": 0}}, "gpu_memory_gb", "must be 0"),
    ],
)
def test_refused_input_names_its_field_and_leaves_nothing(
    actor: Actor, changes: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises((Invalid, ConfigError)) as caught:
        make_sweep(actor, **changes)
    assert said in caught.value.fields[field][0]
    assert not Sweep.objects.exists()
    assert not Run.objects.exists()


def test_a_grid_is_refused_for_one_combination_that_does_not_go_together(actor: Actor) -> None:
    """A prompt's answers have to fill whole batches."""
    space = {"num_generations": [2, 3], "batch_size": [4, 6]}
    rows = factories.make_version(actor, "prompts", b'{"prompt": "1 + 1 =", "answer": "2"}\n' * 8)
    with pytest.raises(Invalid) as caught:
        make_sweep(actor, method="grpo", dataset=rows.dataset_id, **{**GRID, "space": space})
    assert "num_generations" in str(caught.value)


def test_viewers_and_strangers_start_and_change_nothing(actor: Actor, viewer: User, outsider: User) -> None:
    sweep = make_sweep(actor)
    acts: list[Callable[..., Any]] = [services.sweep_stop, services.sweep_resume, services.sweep_delete]
    for act in acts:
        with pytest.raises(Forbidden):
            act(actor=Actor(viewer), sweep=sweep)
        with pytest.raises(NotFound):
            act(actor=Actor(outsider), sweep=sweep)
    with pytest.raises(Forbidden):
        make_sweep(Actor(viewer), "other ", model=sweep.request["model"], dataset=_dataset(sweep))
    assert Sweep.objects.count() == 1


def _dataset(sweep: Sweep) -> Any:
    return trials(sweep)[0].run.dataset_version.dataset_id


# --- going on ---------------------------------------------------------------------------------------------------------


def test_a_grid_tries_everything_once_in_order_and_finishes(actor: Actor) -> None:
    sweep = make_sweep(actor, parallel=2, **GRID)
    seen: list[int] = []
    while at_work := running(sweep):
        seen.append(len(at_work))
        end(at_work[0], at_work[0].params["seed"] / at_work[0].params["batch_size"])
    assert max(seen) == 2
    assert [(one.params["batch_size"], one.params["seed"]) for one in trials(sweep)] == [
        (size, seed) for size in (2, 4) for seed in (1, 2, 3)
    ]
    assert _state(actor, sweep) == "finished"
    best = best_of(sweep, trials(sweep))
    assert best is not None
    assert (best.number, best.value) == (4, 0.25)


def test_the_best_is_the_highest_where_that_is_wanted(actor: Actor) -> None:
    sweep = make_sweep(actor, direction="max", metric="eval/loss", **GRID)
    carry_out(sweep, lambda params: params["seed"])
    best = best_of(sweep, trials(sweep))
    assert best is not None
    assert (best.number, best.value) == (3, 3.0)


def test_waking_it_often_begins_no_more_than_there_is_room_for(actor: Actor) -> None:
    sweep = make_sweep(actor, parallel=2)
    for _ in range(3):
        services.sweep_advance(sweep.pk)
    assert len(trials(sweep)) == 2
    assert sweeps_to_wake() == []
    Sweep.objects.filter(pk=sweep.pk).update(parallel=3)
    assert sweeps_to_wake() == [sweep.pk]


def test_a_failed_trial_does_not_end_it(actor: Actor) -> None:
    sweep = make_sweep(actor, max_trials=3)
    end(running(sweep)[0], outcome=Outcome.FAILED, **OUT_OF_MEMORY)
    end(running(sweep)[0], 1.0)
    end(running(sweep)[0], outcome=Outcome.FAILED, **OUT_OF_MEMORY)
    assert _states(sweep) == ["failed", "done", "failed"]
    assert trials(sweep)[0].why == "Out of memory. Lower batch_size."
    assert _state(actor, sweep) == "finished"


def test_three_that_fail_at_the_start_end_it_with_their_advice_until_it_goes_on(actor: Actor) -> None:
    sweep = make_sweep(actor)
    for _ in range(3):
        end(running(sweep)[0], outcome=Outcome.FAILED, **OUT_OF_MEMORY)
    failed = sweep_get(actor, sweep.pk)
    assert (failed.state, failed.made) == ("failed", 3)
    assert failed.error["message"] == "The first 3 trials have failed: Out of memory."
    assert failed.error["advice"] == "Lower batch_size."
    assert sweeps_to_wake() == []
    services.sweep_resume(actor=actor, sweep=sweep)
    services.sweep_advance(sweep.pk)
    assert (_state(actor, sweep), len(running(sweep))) == ("running", 1)


def test_a_run_that_logs_no_such_metric_or_no_number_has_failed_as_a_trial(actor: Actor) -> None:
    sweep = make_sweep(actor, max_trials=3)
    end(running(sweep)[0])
    end(running(sweep)[0], float("nan"))
    for trial in trials(sweep)[:2]:
        assert (trial.state, trial.error["code"]) == ("failed", "no_value")
        assert trial.run.status == Status.SUCCEEDED


def test_a_crash_that_is_retried_is_still_the_same_trial(actor: Actor) -> None:
    sweep = make_sweep(actor)
    for expected in ("running", "running", "failed"):
        end(trials(sweep)[0], outcome=Outcome.CRASHED)
        assert trials(sweep)[0].state == expected


def test_what_keeps_every_trial_from_being_made_ends_it(actor: Actor, admin: User) -> None:
    sweep = make_sweep(actor)
    Membership.objects.filter(user=actor.user).update(role=Role.VIEWER)
    end(running(sweep)[0], 1.0)
    assert _state(actor, sweep) == "failed"
    services.sweep_resume(actor=Actor(admin), sweep=sweep)
    services.sweep_advance(sweep.pk)
    assert trials(sweep)[1].run.created_by == admin


def test_rows_that_were_deleted_meanwhile_end_it(actor: Actor) -> None:
    sweep = make_sweep(actor, max_trials=2)
    trial = running(sweep)[0]
    dataset = trial.run.dataset_version.dataset
    run_delete(actor=actor, run=trial.run)
    dataset_delete(actor=actor, dataset=dataset)
    services.sweep_advance(sweep.pk)
    found = sweep_get(actor, sweep.pk)
    assert (found.state, found.error["message"]) == ("failed", "A dataset of the sweep was deleted.")


def test_settings_that_do_not_go_together_are_a_failed_trial_without_a_run(actor: Actor) -> None:
    rows = factories.make_version(actor, "prompts", b'{"prompt": "1 + 1 =", "answer": "2"}\n' * 8)
    space = {"num_generations": [2, 4, 8], "batch_size": [2, 4, 8]}
    asked = {"method": "grpo", "dataset": rows.dataset_id, "space": space, "max_trials": 9, "metric": "reward"}
    sweep = make_sweep(actor, strategy="random", **asked)
    # Whatever was drawn, from here on it is what does not go together.
    Sweep.objects.filter(pk=sweep.pk).update(space={"num_generations": [8], "batch_size": [2]}, parallel=4)
    sweep.trials.all().delete()
    services.sweep_advance(sweep.pk)
    assert [(trial.state, trial.run) for trial in trials(sweep)] == [("failed", None)] * 3
    assert "num_generations" in trials(sweep)[0].why
    assert _state(actor, sweep) == "failed"


# --- stopping and going on --------------------------------------------------------------------------------------------


def test_stopping_holds_what_runs_and_going_on_takes_it_up_again(actor: Actor) -> None:
    sweep = make_sweep(actor, parallel=2, **GRID)
    end(running(sweep)[0], 1.0)
    log(trials(sweep)[1].run, {1: 2.0})
    services.sweep_stop(actor=actor, sweep=sweep)
    assert _state(actor, sweep) == "stopping"
    with pytest.raises(Conflict):
        services.sweep_resume(actor=actor, sweep=sweep)
    end(trials(sweep)[1], outcome=Outcome.STOPPED)
    assert (_state(actor, sweep), _states(sweep)) == ("stopped", ["done", "held", "held"])
    assert [trial.run.status for trial in trials(sweep)[1:]] == ["stopped", "stopped"]
    with pytest.raises(Conflict):
        services.sweep_stop(actor=actor, sweep=sweep)
    services.sweep_resume(actor=actor, sweep=sweep)
    services.sweep_advance(sweep.pk)
    assert _states(sweep) == ["done", "running", "running"]
    carry_out(sweep, lambda params: 1.0)
    assert (_state(actor, sweep), len(trials(sweep))) == ("finished", 6)


def test_one_that_is_stopped_by_hand_stays_so_and_the_next_begins(actor: Actor) -> None:
    sweep = make_sweep(actor)
    run_stop(actor=actor, run=running(sweep)[0].run)
    services.sweep_advance(sweep.pk)
    assert _states(sweep) == ["stopped", "running"]
    run_resume(actor=actor, run=trials(sweep)[0].run)
    assert _states(sweep) == ["running", "running"]


def test_a_finished_sweep_does_not_go_on(actor: Actor) -> None:
    sweep = make_sweep(actor, max_trials=1)
    end(running(sweep)[0], 1.0)
    for act in (services.sweep_resume, services.sweep_stop):
        with pytest.raises(Conflict):
            act(actor=actor, sweep=sweep)


def test_deleting_a_run_keeps_its_trial(actor: Actor) -> None:
    sweep = make_sweep(actor)
    end(running(sweep)[0], 1.5)
    run_delete(actor=actor, run=trials(sweep)[0].run)
    run_delete(actor=actor, run=running(sweep)[0].run)
    assert sweeps_to_wake() == [sweep.pk]
    services.sweep_advance(sweep.pk)
    assert [(one.state, one.value, one.run is None) for one in trials(sweep)] == [
        ("done", 1.5, True),
        ("stopped", None, True),
        ("running", None, False),
    ]


def test_deleting_a_sweep_keeps_its_runs_and_waits_for_rest(actor: Actor) -> None:
    sweep = make_sweep(actor)
    with pytest.raises(Conflict):
        services.sweep_delete(actor=actor, sweep=sweep)
    services.sweep_stop(actor=actor, sweep=sweep)
    services.sweep_delete(actor=actor, sweep=sweep)
    assert (Sweep.objects.count(), Trial.objects.count(), Run.objects.count()) == (0, 0, 1)


# --- pruning ----------------------------------------------------------------------------------------------------------


def _with_curves(actor: Actor, **values: Any) -> Sweep:
    """A sweep of which five trials went to their end, each with a loss of their number at steps 10 to 40."""
    sweep = make_sweep(actor, prune=True, max_trials=20, **values)
    for number in range(1, 6):
        log(running(sweep)[0].run, {step: number + 10.0 / step for step in (10, 20, 30, 40)})
        end(running(sweep)[0])
    return sweep


def test_the_median_rule_and_what_becomes_of_a_pruned_run(
    actor: Actor, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    sweep = _with_curves(actor)
    trial = running(sweep)[0]
    for values, total in (
        ({5: 99.0, 9: 99.0}, 20),  # the others had logged nothing yet
        ({10: 9.0}, 41),  # too early
        ({10: float("nan"), 20: float("nan")}, 40),  # nothing to judge by
        ({10: 2.0, 20: 9.0}, 40),  # it was good once
        ({10: 9.0, 20: 3.4}, 40),  # better than half
    ):
        log(trial.run, values, total=total)
        assert prune_hopeless() == []
    log(trial.run, {10: 9.0, 20: 3.6}, total=40)
    Sweep.objects.filter(pk=sweep.pk).update(prune=False)
    with django_assert_num_queries(1):
        assert prune_hopeless() == []
    Sweep.objects.filter(pk=sweep.pk).update(prune=True)
    assert [one.pk for one in prune_hopeless()] == [trial.pk]
    assert Run.objects.get(pk=trial.run.pk).status == Status.STOPPING
    assert prune_hopeless() == []
    end(trial, outcome=Outcome.STOPPED)
    ended = trials(sweep)[5]
    assert (ended.state, ended.value) == ("pruned", 3.6)
    assert ended.why.startswith("At step 20 the best eval/loss was 3.6, worse than 3.5, the median of 5 trials")
    assert len(running(sweep)) == 1

    run_resume(actor=actor, run=Run.objects.get(pk=trial.run_id))
    end(trials(sweep)[5], 0.5)
    again = trials(sweep)[5]
    assert (again.state, again.value, again.reason) == ("done", 0.5, "")


def test_more_is_better_where_that_is_wanted(actor: Actor) -> None:
    sweep = _with_curves(actor, direction="max")
    trial = running(sweep)[0]
    log(trial.run, {20: 3.6}, total=40)
    assert prune_hopeless() == []
    log(trial.run, {20: 3.4}, total=40)
    assert len(prune_hopeless()) == 1
