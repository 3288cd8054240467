"""Runs that learn from a teacher: what is asked for, frozen, and handed to the worker."""

from typing import Any

import pytest

from tests.support import factories
from tests.support.api import ApiClient
from tests.support.checkpoints import make_base_model, make_checkpoint
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.errors import Conflict, Invalid
from webapp.metrics.selectors import config_diff
from webapp.registry import services as registry
from webapp.registry.models import BaseModel, Checkpoint, ModelStatus
from webapp.runs import services
from webapp.runs.config_files import config_yaml
from webapp.runs.models import Preflight
from workers.supervisor import run_spec

pytestmark = pytest.mark.django_db

TALKS = b"".join(b'{"prompt": "%d + 1 =", "completion": "%d"}\n' % (n, n + 1) for n in range(8))


@pytest.fixture
def teacher(team: Team) -> Checkpoint:
    return make_checkpoint(team, "teaches @ 20", kind="model")


@pytest.fixture
def body(actor: Actor, team: Team) -> dict[str, Any]:
    """A run without its teacher, on a checkpoint whose files are in the store."""
    student = make_checkpoint(team, "learns @ 10", kind="model", step=10)
    rows = factories.make_version(actor, "sums", TALKS)
    return {"method": "distill", "model": str(student.pk), "dataset": rows.dataset_id}


def test_the_teacher_is_frozen_with_the_run_and_reaches_its_process(
    actor: Actor, body: dict[str, Any], teacher: Checkpoint
) -> None:
    run = services.run_create(actor=actor, **body, teacher_model=str(teacher.pk))
    assert run.teacher_model is not None
    assert run.teacher_model.checkpoint == teacher
    spec = run_spec(run)
    assert spec.teacher_model is not None
    assert spec.teacher_model.name == "teaches @ 20"
    assert (spec.teacher_model.path / "model.safetensors").is_file()  # type: ignore[operator]
    assert spec.model.path != spec.teacher_model.path
    assert "teacher_model:\n  path: ./teaches-20" in config_yaml(run)
    assert "# ./teaches-20: " in config_yaml(run)
    assert services.run_clone(actor=actor, run=run).teacher_model == run.teacher_model
    other = make_checkpoint(actor.current_team, "other", kind="model")
    taught_otherwise = services.run_create(actor=actor, **body, teacher_model=str(other.pk))
    assert config_diff([run, taught_otherwise])["teacher_model"] == ["teaches @ 20", "other"]


def test_a_method_with_a_teacher_needs_one(actor: Actor, body: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        services.run_create(actor=actor, **body)
    assert caught.value.fields == {"teacher_model": ["must name a teacher model"]}
    assert "Choose a teacher" in caught.value.advice


def test_a_model_cannot_be_its_own_teacher(actor: Actor, body: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="would be its own teacher") as caught:
        services.run_create(actor=actor, **body, teacher_model=body["model"])
    assert list(caught.value.fields) == ["teacher_model"]


def test_one_that_is_of_another_team_or_not_ready_is_refused(
    actor: Actor, body: dict[str, Any], team: Team, other_team: Team
) -> None:
    theirs = make_checkpoint(other_team, "theirs")
    with pytest.raises(Invalid) as caught:
        services.run_create(actor=actor, **body, teacher_model=str(theirs.pk))
    assert list(caught.value.fields) == ["teacher_model"]
    waiting = make_base_model(team, "waiting")
    BaseModel.objects.filter(pk=waiting.pk).update(status=ModelStatus.PREPARING)
    with pytest.raises(Conflict, match="waiting is not ready"):
        services.run_create(actor=actor, **body, teacher_model=str(waiting.pk))


def test_a_method_without_a_teacher_takes_no_notice_of_one(
    actor: Actor, body: dict[str, Any], teacher: Checkpoint
) -> None:
    plain = services.run_create(actor=actor, **body | {"method": "sft"}, teacher_model=str(teacher.pk))
    assert plain.teacher_model is None


def test_another_teacher_is_another_preflight(actor: Actor, body: dict[str, Any], team: Team) -> None:
    asked = [
        services.preflight_request(actor=actor, **body, teacher_model=str(made.pk))
        for made in (make_checkpoint(team, "one"), make_checkpoint(team, "two"))
    ]
    assert Preflight.objects.count() == 2
    assert len({one.request["teacher_model"] for one in asked}) == 2


def test_a_teacher_that_a_run_needs_stays(actor: Actor, body: dict[str, Any], team: Team) -> None:
    teacher = make_base_model(team, "teacher")
    run = services.run_create(actor=actor, **body, teacher_model=str(teacher.pk))
    with pytest.raises(Conflict) as caught:
        registry.model_delete(actor=actor, model=teacher)
    assert caught.value.fields["used_by"] == [str(run.pk)]


def test_the_api_takes_and_tells_the_teacher(api: ApiClient, body: dict[str, Any], teacher: Checkpoint) -> None:
    sent = body | {"dataset": str(body["dataset"]), "teacher_model": str(teacher.pk)}
    created = api.post("/runs", sent)
    assert created.status_code == 201, created.content
    teachers = {method["slug"]: method["teacher"] for method in api.get("/methods").json()}
    told = [teachers[slug] for slug in ("sft", "distill", "gold", "seq-kd")]
    assert told == [None, "same-tokenizer", "any-tokenizer", "writes"]
    run = api.get(f"/runs/{created.json()['id']}").json()
    assert run["teacher_model"] == str(BaseModel.objects.get(checkpoint=teacher).pk)
