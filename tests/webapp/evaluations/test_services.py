"""Recording what an evaluation has measured: once, by whoever holds the run, and never over what was there."""

import pytest

from polm_core.errors import PolmError
from tests.support.checkpoints import make_base_model, make_checkpoint
from tests.support.results import figure_of, make_results
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.errors import Conflict, Invalid
from webapp.evaluations.models import EvaluationResult
from webapp.evaluations.scores import unpacked
from webapp.evaluations.services import results_record
from webapp.registry.models import BaseModel
from webapp.registry.services import checkpoint_delete
from webapp.runs.leases import Claim, LeaseLost
from webapp.runs.models import Run, Status
from webapp.runs.services import run_create


def test_figures_attach_to_the_model_with_the_scores_of_each_row(team: Team) -> None:
    model = make_base_model(team)
    (result,) = make_results(team, model, figure_of([1.0, 0.0, 1.0, 1.0]))
    assert (result.model, result.metric, result.value, result.rows) == (model, "accuracy", 0.75, 4)
    assert result.low < 0.75 < result.high
    keys, scores, weights = unpacked(result.row_scores)
    assert (list(keys), list(scores), list(weights)) == ([0, 1, 2, 3], [1, 0, 1, 1], [1, 1, 1, 1])


def test_recording_again_changes_nothing_and_measuring_again_adds(team: Team) -> None:
    model = make_base_model(team)
    (first,) = make_results(team, model, figure_of([1.0, 0.0]))
    Run.objects.filter(pk=first.run_id).update(status=Status.RUNNING)
    results_record(Claim(first.run_id, 1), [figure_of([0.0, 0.0])])
    assert EvaluationResult.objects.get().value == 0.5
    make_results(team, model, figure_of([0.0, 0.0]))
    assert list(model.results.order_by("-pk").values_list("value", flat=True)) == [0.0, 0.5]


def test_a_worker_that_lost_the_run_records_nothing(team: Team) -> None:
    run = make_run(team, method="eval-accuracy", status=Status.RUNNING, lease_epoch=2)
    with pytest.raises(LeaseLost):
        results_record(Claim(run.pk, 1), [figure_of([1.0])])
    assert not EvaluationResult.objects.exists()


def test_conditions_are_the_settings_that_make_figures_comparable(team: Team) -> None:
    model = make_base_model(team)
    configs = ({}, {"batch_size": 2, "devices": 0}, {"eval_rows": 7})
    usual, hardware, fewer = (make_results(team, model, figure_of([1.0]), config=config)[0] for config in configs)
    assert usual.conditions == hardware.conditions != fewer.conditions


def test_a_checkpoint_that_is_being_measured_is_not_deleted(team: Team, actor: Actor) -> None:
    checkpoint = make_checkpoint(team)
    rows = make_run(team).dataset_version
    rows.format = "prompt-answer"
    rows.save()
    run = run_create(actor=actor, method="eval-accuracy", model=str(checkpoint.pk), dataset=rows.dataset_id)
    with pytest.raises(Conflict) as refused:
        checkpoint_delete(actor=actor, checkpoint=checkpoint)
    assert refused.value.fields["used_by"] == [str(run.pk)]


def test_a_checkpoint_is_held_against_what_it_was_trained_from(team: Team, actor: Actor) -> None:
    base = make_base_model(team)
    first = make_checkpoint(team, base_model=base)
    second = make_checkpoint(team, "second @ 20", base_model=base, parent=first)
    rows = make_run(team).dataset_version
    rows.format = "prompt"
    rows.save()
    request = {"method": "eval-winrate", "dataset": rows.dataset_id, "judge_model": str(base.pk)}

    def opponent_of(model: str, **more: str) -> BaseModel | None:
        return run_create(actor=actor, model=model, **request, **more).teacher_model

    assert opponent_of(str(first.pk)) == base
    found = opponent_of(str(second.pk))
    assert found is not None
    assert found.checkpoint == first
    assert opponent_of(str(second.pk), teacher_model=str(base.pk)) == base
    with pytest.raises(Invalid, match="trained from no model here") as refused:
        opponent_of(str(base.pk))
    assert "teacher_model" in refused.value.fields


@pytest.mark.parametrize(
    ("field", "asked", "said"),
    [
        ("model", {"model": "gone"}, "id of a model or checkpoint"),
        ("dataset", {"method": "eval-accuracy"}, "This method needs prompt and answer"),
        ("eval_dataset", {"eval_dataset": "rows"}, "must be left out"),
        ("method", {"method": "eval-los"}, "Did you mean eval-loss"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_remedy(
    team: Team, actor: Actor, field: str, asked: dict[str, str], said: str
) -> None:
    checkpoint = make_checkpoint(team)
    rows = make_run(team).dataset_version
    rows.format = "text"
    rows.save()
    named = {"gone": str(checkpoint.pk), "rows": str(rows.dataset_id)}
    checkpoint_delete(actor=actor, checkpoint=checkpoint)
    request = {"method": "eval-loss", "model": str(make_base_model(team).pk), "dataset": str(rows.dataset_id)}
    with pytest.raises(PolmError) as refused:
        run_create(actor=actor, **request | {name: named.get(value, value) for name, value in asked.items()})
    assert said in refused.value.fields[field][0]
    assert not Run.objects.filter(method__startswith="eval").exists()
