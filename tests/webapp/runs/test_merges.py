"""Runs that merge models, and take no dataset: what is asked for, frozen, and handed to the worker."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from polm_core.errors import ConfigError
from tests.support import factories
from tests.support.api import ApiClient
from tests.support.checkpoints import make_base_model, make_checkpoint
from webapp.accounts.access import Actor
from webapp.accounts.models import Membership, Role, Team
from webapp.errors import Conflict, Invalid
from webapp.metrics.selectors import config_diff
from webapp.registry import services as registry
from webapp.registry.models import BaseModel, Checkpoint, ModelStatus
from webapp.registry.selectors import lineage
from webapp.runs import selectors, services
from webapp.runs.config_files import config_yaml
from webapp.runs.models import Preflight, Run, RunCheckpoint
from workers.supervisor import run_spec

pytestmark = pytest.mark.django_db


@pytest.fixture
def parents(team: Team) -> list[Checkpoint]:
    """Checkpoints whose files are in the store."""
    return [make_checkpoint(team, f"skill-{n} @ 20", kind="model", step=20 + n) for n in range(3)]


@pytest.fixture
def body(parents: list[Checkpoint]) -> dict[str, Any]:
    first, *others = (str(one.pk) for one in parents)
    return {"method": "merge", "model": first, "merge_models": others}


def test_the_models_are_frozen_in_their_order_and_reach_the_process(
    actor: Actor, body: dict[str, Any], team: Team
) -> None:
    run = services.run_create(actor=actor, **body, config={"weights": [1, 2, 3]})
    assert (run.dataset_version, run.team) == (None, team)
    spec = run_spec(run)
    assert spec.dataset is None
    assert [one.name for one in spec.merge_models] == ["skill-1 @ 20", "skill-2 @ 20"]
    assert all((one.path / "model.safetensors").is_file() for one in spec.merge_models)  # type: ignore[operator]
    text = config_yaml(run)
    assert "merge_models:\n- path: ./skill-1-20\n- path: ./skill-2-20\ndataset: null" in text
    assert "# ./skill-2-20: " in text
    clone = services.run_clone(actor=actor, run=run)
    assert [one.model for one in clone.merge_models.all()] == [one.model for one in run.merge_models.all()]
    fewer = services.run_create(actor=actor, **body | {"merge_models": body["merge_models"][:1]})
    assert config_diff([run, fewer])["merge_models"] == [["skill-1 @ 20", "skill-2 @ 20"], ["skill-1 @ 20"]]


def test_what_differs_is_read_in_as_many_queries_for_any_number_of_runs(actor: Actor, body: dict[str, Any]) -> None:
    for _ in range(3):
        services.run_create(actor=actor, **body)
    counts = []
    for number in (1, 3):
        runs = list(selectors.runs_visible(actor)[:number])
        with CaptureQueriesContext(
            connection,
        ) as queries:
            config_diff(runs)
        counts.append(len(queries))
    assert counts == [2, 2]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"merge_models": []}, "merge_models"),
        ({"config": {"merge_method": "slerp"}}, "merge_models"),
        ({"config": {"weights": [1, 1]}}, "config.weights"),
        ({"config": {"weights": [1, -1, 0]}}, "config.weights"),
        ({"merge_models": ["starter"] * 16}, "merge_models"),
        ({"merge_models": ["nope"]}, "merge_models"),
    ],
)
def test_a_choice_that_makes_no_merge_is_refused(
    actor: Actor, body: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    with pytest.raises((Invalid, ConfigError)) as caught:
        services.run_create(actor=actor, **body | change)
    assert list(caught.value.fields) == [field]
    assert caught.value.message
    assert not Run.objects.exists()


def test_a_model_is_named_once(actor: Actor, body: dict[str, Any]) -> None:
    for others in ([body["model"]], body["merge_models"][:1] * 2):
        with pytest.raises(Invalid, match="named twice"):
            services.run_create(actor=actor, **body | {"merge_models": others})


def test_models_of_others_and_unready_ones_are_refused(actor: Actor, body: dict[str, Any], team: Team) -> None:
    theirs = make_checkpoint(factories.make_team("Blue"), "theirs")
    with pytest.raises(Invalid) as caught:
        services.run_create(actor=actor, **body | {"merge_models": [str(theirs.pk)]})
    assert list(caught.value.fields) == ["merge_models"]
    waiting = make_base_model(team, "waiting")
    BaseModel.objects.filter(pk=waiting.pk).update(status=ModelStatus.PREPARING)
    with pytest.raises(Conflict, match="model to merge waiting is not ready"):
        services.run_create(actor=actor, **body | {"merge_models": [str(waiting.pk)]})


def test_a_dataset_is_asked_for_where_one_is_taken_alone(actor: Actor, body: dict[str, Any], team: Team) -> None:
    rows = factories.make_version(actor, "sums")
    for field in ("dataset", "eval_dataset"):
        with pytest.raises(Invalid) as caught:
            services.run_create(actor=actor, **body, **{field: rows.dataset_id})
        assert caught.value.fields == {field: ["must be left out"]}
    with pytest.raises(Invalid, match="takes a dataset") as caught:
        services.run_create(actor=actor, method="sft", model=body["model"])
    assert caught.value.fields == {"dataset": ["must name a dataset"]}
    plain = services.run_create(actor=actor, **body | {"method": "sft"}, dataset=rows.dataset_id)
    assert not plain.merge_models.exists()


def test_a_run_without_a_dataset_is_the_team_s_whose_model_it_starts_from(actor: Actor, body: dict[str, Any]) -> None:
    other = factories.make_team("Blue")
    Membership.objects.create(team=other, user=actor.user, role=Role.MEMBER)
    theirs = [str(make_checkpoint(other, f"blue-{n}", kind="model").pk) for n in range(2)]
    run = services.run_create(actor=Actor(actor.user), method="merge", model=theirs[0], merge_models=theirs[1:])
    assert run.team == other
    starter = services.run_create(actor=actor, **body)
    assert starter.team == actor.current_team


def test_other_models_are_another_preflight(actor: Actor, body: dict[str, Any]) -> None:
    for others in (body["merge_models"], body["merge_models"][:1], body["merge_models"]):
        services.preflight_request(actor=actor, **body | {"merge_models": others})
    asked = Preflight.objects.all()
    assert sorted(len(one.request["merge_models"]) for one in asked) == [1, 2]
    assert {one.request["dataset_version"] for one in asked} == {None}


def test_a_model_that_a_merge_used_stays(actor: Actor, team: Team) -> None:
    first, second = make_base_model(team, "first"), make_base_model(team, "second")
    run = services.run_create(actor=actor, method="merge", model=str(first.pk), merge_models=[str(second.pk)])
    with pytest.raises(Conflict) as caught:
        registry.model_delete(actor=actor, model=second)
    assert caught.value.fields == {"used_by": [str(run.pk)]}
    services.run_delete(actor=actor, run=services.run_stop(actor=actor, run=run))
    registry.model_delete(actor=actor, model=second)


def test_parents_and_child_know_each_other(actor: Actor, body: dict[str, Any], parents: list[Checkpoint]) -> None:
    run = services.run_create(actor=actor, **body)
    child = make_checkpoint(actor.current_team, "merged @ 21", kind="model", parent=parents[0])
    RunCheckpoint.objects.create(run=run, step=21, checkpoint=child)
    found = lineage(actor, child)
    assert found.ancestors == [parents[0]]
    assert [one.checkpoint for one in found.merged] == parents[1:]
    assert [lineage(actor, parent).descendants for parent in parents] == [[child]] * 3
    assert lineage(actor, parents[0]).merged == []


def test_a_run_whose_checkpoint_was_merged_stays(
    actor: Actor, body: dict[str, Any], parents: list[Checkpoint], team: Team
) -> None:
    maker = services.run_stop(actor=actor, run=services.run_create(actor=actor, **body))
    child = make_checkpoint(team, "merged @ 21", kind="model")
    RunCheckpoint.objects.create(run=maker, step=21, checkpoint=child)
    user = services.run_create(actor=actor, **body | {"merge_models": [str(child.pk)]})
    assert list(selectors.runs_from(maker)) == [user]
    with pytest.raises(Conflict, match="merged it"):
        services.run_delete(actor=actor, run=maker)


def test_the_api_takes_and_tells_the_models(api: ApiClient, body: dict[str, Any]) -> None:
    made = api.post("/runs", body)
    assert made.status_code == 201
    told = api.get(f"/runs/{made.json()['id']}").json()
    run = Run.objects.get()
    assert told["dataset"] is None
    assert told["merge_models"] == [str(one.model_id) for one in run.merge_models.all()]
    assert len(told["merge_models"]) == 2
    assert api.get("/runs").json()["items"][0]["dataset"] is None
    assert api.get("/runs?q=dataset:sums").json()["items"] == []
    assert len(api.get("/runs?q=not dataset:sums").json()["items"]) == 1
    merges = {method["slug"]: (method["merges"], method["formats"]) for method in api.get("/methods").json()}
    assert merges["merge"] == (True, [])
    assert merges["sft"][0] is False
