"""Runs whose answers are scored by a reward model: what is asked for, frozen, and handed to the worker."""

from typing import Any

import pytest
from pytest_django import Settings

from polm_core.context import dump_spec
from tests.support import factories
from tests.support.checkpoints import make_base_model, make_checkpoint
from webapp.accounts.access import Actor
from webapp.accounts.judges import judge_endpoint_set
from webapp.accounts.models import Team, User
from webapp.errors import Conflict, Invalid
from webapp.registry.models import BaseModel, Checkpoint, ModelStatus
from webapp.runs import services
from webapp.runs.config_files import config_yaml
from webapp.runs.models import Preflight
from workers.judges import judge_env
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


JUDGED = {"rewards": {"math": 0, "judge": 1, "judge_rubric": "Short is good."}}


def test_so_is_the_model_that_judges(actor: Actor, body: dict[str, Any], scorer: Checkpoint) -> None:
    with pytest.raises(Invalid) as caught:
        services.run_create(actor=actor, **body, config=JUDGED)
    assert caught.value.fields == {"judge_model": ["must name a judge model"]}
    assert "rewards.judge to 0" in caught.value.advice
    run = services.run_create(actor=actor, **body, judge_model=str(scorer.pk), config=JUDGED)
    spec = run_spec(run)
    assert spec.judge_model is not None
    assert spec.judge_model.name == "scores @ 20"
    assert spec.reward_model is None
    assert "judge_model:\n  path: ./scores-20" in config_yaml(run)
    assert services.run_clone(actor=actor, run=run).judge_model == run.judge_model
    asks_elsewhere = {"rewards": {"judge_by": "endpoint"}}
    assert services.run_clone(actor=actor, run=run, changes=asks_elsewhere).judge_model is None


def test_the_teams_endpoint_reaches_the_processes_that_ask_it_and_nothing_else(
    admin: User, body: dict[str, Any], team: Team
) -> None:
    actor = Actor(admin)
    config = {"rewards": {"math": 0, "judge": 1, "judge_by": "endpoint"}}
    run = services.run_create(actor=actor, **body, config=config)
    assert judge_env(team.pk, run.config) == {}
    judge_endpoint_set(actor=actor, team=team, url="https://api.example.com/v1", model="judge-1", key="sk-private")
    assert judge_env(team.pk, run.config) == {
        "POLM_JUDGE_URL": "https://api.example.com/v1",
        "POLM_JUDGE_MODEL": "judge-1",
        "POLM_JUDGE_KEY": "sk-private",
    }
    assert judge_env(team.pk, services.run_create(actor=actor, **body).config) == {}
    # The studio's own key is not for the team's address.
    judge_endpoint_set(actor=actor, team=team, url="https://api.example.com/v1", model="judge-1")
    assert judge_env(team.pk, run.config)["POLM_JUDGE_KEY"] == ""
    assert "api.example.com" not in dump_spec(run_spec(run)) + config_yaml(run)


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
