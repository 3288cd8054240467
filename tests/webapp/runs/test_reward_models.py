"""Runs whose answers are scored by a reward model: what is asked for, frozen, and handed to the worker."""

from typing import Any

import pytest
from pytest_django import Settings

from tests.support import factories
from tests.support.checkpoints import make_base_model, make_checkpoint
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.errors import Conflict, Invalid
from webapp.registry.models import BaseModel, Checkpoint, ModelStatus
from webapp.runs import services
from webapp.runs.config_files import config_yaml
from webapp.runs.models import Preflight
from workers.supervisor import run_spec

pytestmark = pytest.mark.django_db

ANSWERS = b"".join(b'{"prompt": "%d + 1 =", "answer": "%d"}\n' % (n, n + 1) for n in range(8))
SCORED = {"rewards": {"math": 0, "reward_model": 1}}


@pytest.fixture
def scorer(team: Team) -> Checkpoint:
    return make_checkpoint(team, "scores @ 20", kind="model")


@pytest.fixture
def body(actor: Actor, team: Team) -> dict[str, Any]:
    """A run without rewards of its own, on a checkpoint whose files are in the store."""
    writer = make_checkpoint(team, "writes @ 10", kind="model", step=10)
    rows = factories.make_version(actor, "sums", ANSWERS)
    return {"method": "rloo", "model": str(writer.pk), "dataset": rows.dataset_id}


def test_the_reward_model_is_frozen_with_the_run_and_reaches_its_process(
    actor: Actor, body: dict[str, Any], scorer: Checkpoint, settings: Settings
) -> None:
    run = services.run_create(actor=actor, **body, reward_model=str(scorer.pk), config=SCORED)
    assert run.reward_model is not None
    assert run.reward_model.checkpoint == scorer
    spec = run_spec(run)
    assert spec.reward_model is not None
    assert spec.reward_model.name == "scores @ 20"
    assert (spec.reward_model.path / "model.safetensors").is_file()  # type: ignore[operator]
    assert spec.model.path != spec.reward_model.path
    assert "reward_model:\n  path: ./scores-20" in config_yaml(run)
    assert services.run_clone(actor=actor, run=run).reward_model == run.reward_model
    plain = services.run_clone(actor=actor, run=run, changes={"rewards": {"math": 1, "reward_model": 0}})
    assert plain.reward_model is None
    assert run_spec(plain).reward_model is None


def test_a_score_with_a_weight_needs_a_reward_model(actor: Actor, body: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        services.run_create(actor=actor, **body, config=SCORED)
    assert caught.value.fields == {"reward_model": ["must name a reward model"]}
    assert "rewards.reward_model to 0" in caught.value.advice


def test_one_that_is_of_another_team_or_not_ready_is_refused(
    actor: Actor, body: dict[str, Any], team: Team, other_team: Team
) -> None:
    theirs = make_checkpoint(other_team, "theirs")
    with pytest.raises(Invalid) as caught:
        services.run_create(actor=actor, **body, reward_model=str(theirs.pk), config=SCORED)
    assert list(caught.value.fields) == ["reward_model"]
    waiting = make_base_model(team, "waiting")
    BaseModel.objects.filter(pk=waiting.pk).update(status=ModelStatus.PREPARING)
    with pytest.raises(Conflict, match="waiting is not ready"):
        services.run_create(actor=actor, **body, reward_model=str(waiting.pk), config=SCORED)


def test_without_a_weight_it_is_no_part_of_the_run(actor: Actor, body: dict[str, Any], scorer: Checkpoint) -> None:
    assert services.run_create(actor=actor, **body, reward_model=str(scorer.pk)).reward_model is None


def test_another_reward_model_is_another_preflight(actor: Actor, body: dict[str, Any], team: Team) -> None:
    asked = [
        services.preflight_request(actor=actor, **body, reward_model=str(made.pk), config=SCORED)
        for made in (make_checkpoint(team, "one"), make_checkpoint(team, "two"))
    ]
    assert Preflight.objects.count() == 2
    assert len({one.request["reward_model"] for one in asked}) == 2
