"""Pipelines: begun whole or not at all, going on as their runs end, started again from any stage."""

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection, transaction

from polm_core.errors import ConfigError
from polm_core.run_dir import Outcome
from tests.support import factories
from tests.support.checkpoints import make_checkpoint
from tests.support.pipelines import COMPARISONS, finish, make_pipeline, make_slots, run_of, stages_of
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, Membership, Role, Team, User
from webapp.datasets.models import VersionStatus
from webapp.datasets.services import dataset_delete
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from webapp.recipes import services
from webapp.recipes.models import Pipeline, StageRun
from webapp.recipes.selectors import pipeline_get
from webapp.registry.services import checkpoint_delete
from webapp.runs.leases import LeaseLost
from webapp.runs.models import Run, Status
from webapp.runs.services import run_delete, run_resume, run_stop

pytestmark = pytest.mark.django_db

OUT_OF_MEMORY = {"code": "out_of_memory", "message": "Out of memory.", "advice": "Lower batch_size.", "fields": {}}


@pytest.fixture
def pipeline(actor: Actor) -> Pipeline:
    return make_pipeline(actor)


def _states(actor: Actor, pipeline: Pipeline) -> list[str]:
    return [stage.state for stage in stages_of(actor, pipeline).values()]


def _state(actor: Actor, pipeline: Pipeline) -> str:
    return pipeline_get(actor, pipeline.pk).state


def _carried_on(actor: Actor, pipeline: Pipeline, *names: str) -> None:
    for name in names:
        finish(run_of(actor, pipeline, name))


# --- starting ---------------------------------------------------------------------------------------------------------


def test_only_the_first_stage_is_queued_and_everything_is_frozen(actor: Actor, pipeline: Pipeline) -> None:
    assert _states(actor, pipeline) == ["queued", "waiting", "waiting"]
    assert _state(actor, pipeline) == "running"
    assert pipeline.name == "instructgpt-1"
    first = run_of(actor, pipeline, "sft")
    assert (first.name, first.method, first.parent) == ("instructgpt-1 sft", "sft", None)
    policy = stages_of(actor, pipeline)["policy"]
    assert policy.config["rewards"]["reward_model"] == 1.0
    assert policy.config["rewards"]["math"] == 0.0
    assert policy.dataset_version.dataset.name == "prompts"
    assert AuditEvent.objects.filter(verb="pipeline.create", target_id=str(pipeline.pk)).exists()


def test_placing_reaches_every_run(actor: Actor) -> None:
    pipeline = make_pipeline(actor, priority=3, labels=["big"], tags=["rlhf"], gpu_memory_gb=24, project="Alignment")
    _carried_on(actor, pipeline, "sft")
    for name in ("sft", "reward"):
        run = run_of(actor, pipeline, name)
        assert (run.priority, run.labels, run.tags, run.gpu_memory_gb) == (3, ["big"], ["rlhf"], 24)
        assert run.project.name == "Alignment"


def test_the_same_request_id_gives_the_same_pipeline(actor: Actor) -> None:
    body = {"datasets": make_slots(actor), "models": {}}
    body["models"] = {"base": str(make_checkpoint(actor.current_team).pk)}
    first = services.pipeline_create(actor=actor, recipe="instructgpt", **body, request_id="r")
    assert services.pipeline_create(actor=actor, recipe="instructgpt", **body, request_id="r") == first
    assert Run.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"datasets": {"comparisons": ""}}, "datasets.comparisons", "must name a dataset"),
        ({"datasets": {"comparisons": "demonstrations"}}, "datasets.comparisons", "needs preference"),
        ({"datasets": {"prompts": "nonsense"}}, "datasets.prompts", "names no dataset"),
        ({"datasets": {"images": "x"}}, "datasets.images", "demonstrations, comparisons, prompts"),
        ({"models": {"base": "nonsense"}}, "models.base", "Give starter"),
        ({"models": {"student": "starter"}}, "models.student", "there are base"),
        ({"stages": {"rewar": {}}}, "stages.rewar", "Did you mean reward?"),
        ({"stages": {"policy": {"method": "dpo"}}}, "stages.policy.method", "must be one of"),
        (
            {"stages": {"reward": {"config": {"learning_rate": 5}}}},
            "stages.reward.config.learning_rate",
            "must be at most 1",
        ),
        ({"stages": {"sft": {"config": {"steps": 5}}}}, "stages.sft.config.steps", "is not a setting of sft"),
        ({"name": "n" * 151}, "name", "at most 150"),
        ({"priority": 99}, "priority", "from -10 to 10"),
    ],
)
def test_refused_input_names_its_field_and_leaves_nothing(
    actor: Actor, changes: dict[str, Any], field: str, said: str
) -> None:
    slots = make_slots(actor)
    datasets = {**slots, **{slot: slots.get(of, of) for slot, of in changes.pop("datasets", {}).items()}}
    with pytest.raises(Invalid) as caught:
        make_pipeline(actor, "another ", datasets=datasets, **changes)
    assert said in caught.value.fields[field][0]
    assert not Pipeline.objects.exists()
    assert not Run.objects.exists()


def test_all_that_is_wrong_is_told_at_once(actor: Actor) -> None:
    slots = make_slots(actor)
    with pytest.raises(Invalid) as caught:
        services.pipeline_create(
            actor=actor,
            recipe="instructgpt",
            datasets={"demonstrations": slots["demonstrations"]},
            stages={"sft": {"config": {"epochs": 0}}},
        )
    assert set(caught.value.fields) == {"datasets.comparisons", "datasets.prompts", "stages.sft.config.epochs"}


def test_an_unknown_recipe_is_told_what_was_meant(actor: Actor) -> None:
    with pytest.raises(ConfigError) as caught:
        services.pipeline_create(actor=actor, recipe="instructgtp", datasets={})
    assert "Did you mean instructgpt?" in caught.value.fields["recipe"][0]


def test_datasets_that_are_not_ready_or_of_two_teams_are_refused(actor: Actor, team: Team, outsider: User) -> None:
    slots = make_slots(actor)
    version = factories.make_version(Actor(outsider), "theirs", COMPARISONS)
    with pytest.raises(Invalid) as caught:
        services.pipeline_create(
            actor=actor, recipe="instructgpt", datasets={**slots, "comparisons": str(version.dataset_id)}
        )
    assert "names no dataset of yours" in caught.value.fields["datasets.comparisons"][0]
    Membership.objects.create(team=version.dataset.team, user=actor.user, role=Role.MEMBER)
    with pytest.raises(Invalid) as caught:
        services.pipeline_create(
            actor=Actor(actor.user), recipe="instructgpt", datasets={**slots, "comparisons": str(version.dataset_id)}
        )
    assert "same team" in caught.value.fields["datasets.comparisons"][0]
    version.__class__.objects.filter(dataset=slots["prompts"]).update(status=VersionStatus.PROCESSING)
    with pytest.raises(Invalid) as caught:
        services.pipeline_create(actor=actor, recipe="instructgpt", datasets=slots)
    assert "still being processed" in caught.value.fields["datasets.prompts"][0]


def test_viewers_and_strangers_start_and_change_nothing(
    actor: Actor, pipeline: Pipeline, viewer: User, outsider: User
) -> None:
    slots = {stage.dataset_version.dataset.name: str(stage.dataset_version.dataset_id) for stage in _all(actor)}
    with pytest.raises(Forbidden):
        services.pipeline_create(actor=Actor(viewer), recipe="instructgpt", datasets=slots)
    with pytest.raises(Invalid):
        services.pipeline_create(actor=Actor(outsider), recipe="instructgpt", datasets=slots)
    acts: list[Callable[..., Any]] = [services.pipeline_stop, services.pipeline_delete]
    for act in acts:
        with pytest.raises(Forbidden):
            act(actor=Actor(viewer), pipeline=pipeline)
        with pytest.raises(NotFound):
            act(actor=Actor(outsider), pipeline=pipeline)
    with pytest.raises(Forbidden):
        services.pipeline_restart(actor=Actor(viewer), pipeline=pipeline, stage="sft")
    assert (Pipeline.objects.count(), Run.objects.count()) == (1, 1)


def _all(actor: Actor) -> list[Any]:
    return list(stages_of(actor, Pipeline.objects.get()).values())


# --- going on ---------------------------------------------------------------------------------------------------------


def test_each_stage_starts_from_what_the_recipe_says(actor: Actor, pipeline: Pipeline) -> None:
    _carried_on(actor, pipeline, "sft")
    assert _states(actor, pipeline) == ["succeeded", "queued", "waiting"]
    sft, reward = run_of(actor, pipeline, "sft"), run_of(actor, pipeline, "reward")
    tuned = sft.run_checkpoints.get().checkpoint
    assert (reward.method, reward.parent, reward.model.checkpoint) == ("reward-model", sft, tuned)
    _carried_on(actor, pipeline, "reward")
    policy = run_of(actor, pipeline, "policy")
    assert (policy.method, policy.parent, policy.model.checkpoint) == ("ppo", sft, tuned)
    assert policy.reward_model is not None
    assert policy.reward_model.checkpoint == reward.run_checkpoints.get().checkpoint
    assert policy.created_by == actor.user
    _carried_on(actor, pipeline, "policy")
    assert _state(actor, pipeline) == "succeeded"
    assert Run.objects.count() == 3


def test_a_student_starts_from_a_model_of_its_own_and_learns_from_an_earlier_stage(actor: Actor) -> None:
    pipeline = make_pipeline(actor, recipe="deepseek-r1")
    before = ("cold-start", "reasoning", "sampling", "general-sft", "final")
    for earlier, later in pairwise(before):
        _carried_on(actor, pipeline, earlier)
        begun, ended = run_of(actor, pipeline, later), run_of(actor, pipeline, earlier)
        assert (begun.parent, begun.model.checkpoint) == (ended, ended.run_checkpoints.get().checkpoint)
        assert begun.teacher_model is None
    _carried_on(actor, pipeline, "final")
    final, student = run_of(actor, pipeline, "final"), run_of(actor, pipeline, "distillation")
    assert (student.method, student.parent, student.model.name) == ("seq-kd", None, "student")
    assert student.teacher_model is not None
    assert student.teacher_model.checkpoint == final.run_checkpoints.get().checkpoint
    _carried_on(actor, pipeline, "distillation")
    assert _state(actor, pipeline) == "succeeded"
    services.pipeline_restart(actor=actor, pipeline=pipeline, stage="sampling")
    assert _states(actor, pipeline) == ["succeeded", "succeeded", "queued", "waiting", "waiting", "waiting"]


def test_the_judge_of_steps_guides_learning_and_weighs_votes(actor: Actor) -> None:
    pipeline = make_pipeline(actor, recipe="o1")
    _carried_on(actor, pipeline, "prm", "policy")
    judge = run_of(actor, pipeline, "prm").run_checkpoints.get().checkpoint
    policy, scaling = run_of(actor, pipeline, "policy"), run_of(actor, pipeline, "scaling")
    assert [run.reward_model and run.reward_model.checkpoint for run in (policy, scaling)] == [judge, judge]
    assert scaling.parent == policy
    assert scaling.model.checkpoint == policy.run_checkpoints.get().checkpoint
    finish(scaling, checkpoint=False)
    assert _state(actor, pipeline) == "succeeded"


@pytest.mark.parametrize(
    ("rewards", "field", "said"),
    [({"reward_model": 1.0}, "reward_model", "a reward model"), ({"judge": 1.0}, "judge", "a judge model")],
)
def test_rewards_that_no_stage_can_give_are_refused_before_anything_runs(
    actor: Actor, rewards: dict[str, float], field: str, said: str
) -> None:
    with pytest.raises(Invalid) as caught:
        make_pipeline(actor, recipe="deepseek-r1", stages={"final": {"config": {"rewards": rewards}}})
    (problem,) = caught.value.fields[f"stages.final.config.rewards.{field}"]
    assert problem == f"must be 0: no stage of DeepSeek-R1 supplies {said} here"
    assert not Run.objects.exists()


def test_the_final_checkpoint_is_the_one_built_on(actor: Actor, pipeline: Pipeline) -> None:
    sft = run_of(actor, pipeline, "sft")
    early = make_checkpoint(actor.current_team, "early", step=5)
    sft.run_checkpoints.create(checkpoint=early, step=5)
    _carried_on(actor, pipeline, "sft")
    begun = run_of(actor, pipeline, "reward").model.checkpoint
    assert begun is not None
    assert begun.step == 20


def test_a_stage_begins_with_the_end_of_the_one_before_or_not_at_all(actor: Actor, pipeline: Pipeline) -> None:
    """A worker that dies while it ends a run leaves both undone, and the next one does both."""
    sft = run_of(actor, pipeline, "sft")

    def die_before_the_end_is_committed() -> None:
        with transaction.atomic():
            finish(sft)
            assert Run.objects.count() == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die_before_the_end_is_committed()
    assert Run.objects.count() == 1
    finish(run_of(actor, pipeline, "sft"))
    assert _states(actor, pipeline) == ["succeeded", "queued", "waiting"]


def test_a_stage_begins_once_however_often_the_end_is_told(actor: Actor, pipeline: Pipeline) -> None:
    sft = run_of(actor, pipeline, "sft")
    finish(sft)
    with pytest.raises(LeaseLost):
        finish(Run.objects.get(pk=sft.pk), Outcome.STOPPED)
    services.pipeline_follow(run=Run.objects.get(pk=sft.pk))
    assert Run.objects.count() == 2


def test_a_stage_that_fails_halts_the_pipeline_with_its_own_advice(actor: Actor, pipeline: Pipeline) -> None:
    _carried_on(actor, pipeline, "sft")
    finish(run_of(actor, pipeline, "reward"), Outcome.FAILED, **OUT_OF_MEMORY)
    assert _states(actor, pipeline) == ["succeeded", "failed", "waiting"]
    failed = pipeline_get(actor, pipeline.pk).failed_stage
    assert failed is not None
    assert failed.problem == OUT_OF_MEMORY
    assert _state(actor, pipeline) == "failed"


def test_a_crash_is_retried_before_the_pipeline_fails(actor: Actor, pipeline: Pipeline) -> None:
    for expected in ("queued", "queued", "failed"):
        finish(run_of(actor, pipeline, "sft"), Outcome.CRASHED)
        assert _states(actor, pipeline)[0] == expected
    assert _state(actor, pipeline) == "failed"


def test_a_stage_whose_run_is_resumed_by_hand_carries_the_pipeline_on(actor: Actor, pipeline: Pipeline) -> None:
    finish(run_of(actor, pipeline, "sft"), Outcome.FAILED, **OUT_OF_MEMORY)
    run_resume(actor=actor, run=run_of(actor, pipeline, "sft"))
    assert _state(actor, pipeline) == "running"
    services.pipeline_stop(actor=actor, pipeline=pipeline)
    assert _state(actor, pipeline) == "stopped"
    run_resume(actor=actor, run=run_of(actor, pipeline, "sft"))
    _carried_on(actor, pipeline, "sft")
    assert _states(actor, pipeline) == ["succeeded", "queued", "waiting"]


def test_what_keeps_a_stage_from_beginning_is_noted_with_it(actor: Actor, pipeline: Pipeline, admin: User) -> None:
    """Whoever started it may no longer run anything: the run that ended has succeeded all the same."""
    Membership.objects.filter(user=actor.user).update(role=Role.VIEWER)
    _carried_on(actor, pipeline, "sft")
    assert _states(actor, pipeline) == ["succeeded", "failed", "waiting"]
    problem = stages_of(actor, pipeline)["reward"].problem
    assert problem is not None
    assert problem["message"] == "Your role in this team is viewer."
    services.pipeline_restart(actor=Actor(admin), pipeline=pipeline, stage="reward")
    assert run_of(actor, pipeline, "reward").created_by == admin
    _carried_on(actor, pipeline, "reward")
    assert _states(actor, pipeline) == ["succeeded", "succeeded", "queued"]


def test_without_whoever_started_it_somebody_else_has_to(actor: Actor, pipeline: Pipeline) -> None:
    Pipeline.objects.update(carried_by=None)
    _carried_on(actor, pipeline, "sft")
    problem = stages_of(actor, pipeline)["reward"].problem
    assert problem is not None
    assert "left the studio" in problem["message"]


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_stopping_stops_the_stage_that_runs_and_begins_nothing_more(actor: Actor, pipeline: Pipeline) -> None:
    _carried_on(actor, pipeline, "sft")
    Run.objects.filter(pk=run_of(actor, pipeline, "reward").pk).update(status=Status.RUNNING)
    services.pipeline_stop(actor=actor, pipeline=pipeline)
    assert _states(actor, pipeline) == ["succeeded", "stopping", "waiting"]
    assert _state(actor, pipeline) == "stopping"
    finish(run_of(actor, pipeline, "reward"), Outcome.SUCCEEDED)  # it was done before it heard
    assert _states(actor, pipeline) == ["succeeded", "succeeded", "waiting"]
    assert _state(actor, pipeline) == "stopped"
    with pytest.raises(Conflict):
        services.pipeline_stop(actor=actor, pipeline=pipeline)
    services.pipeline_restart(actor=actor, pipeline=pipeline, stage="policy")
    assert _states(actor, pipeline) == ["succeeded", "succeeded", "queued"]


def test_stopping_a_stage_s_run_stops_the_pipeline(actor: Actor, pipeline: Pipeline) -> None:
    run_stop(actor=actor, run=run_of(actor, pipeline, "sft"))
    assert _state(actor, pipeline) == "stopped"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("before", "ends", "states"),
    [((), "sft", ["succeeded", "stopped", "waiting"]), (("sft",), "reward", ["succeeded", "succeeded", "stopped"])],
)
def test_a_stage_that_begins_while_the_pipeline_is_stopped_is_stopped_too(
    actor: Actor, before: tuple[str, ...], ends: str, states: list[str]
) -> None:
    pipeline = make_pipeline(actor)
    _carried_on(actor, pipeline, *before)
    run = run_of(actor, pipeline, ends)
    failed: list[BaseException] = []
    held, stopping = threading.Event(), threading.Event()

    def worker() -> None:
        try:
            with transaction.atomic():
                Run.objects.select_for_update().get(pk=run.pk)
                held.set()
                stopping.wait(30)
                _wait_until_somebody_waits_for_a_row()
                finish(run)
        except BaseException as error:  # noqa: BLE001 (told by the test itself)
            failed.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=worker)
    thread.start()
    assert held.wait(30)
    stopping.set()
    services.pipeline_stop(actor=actor, pipeline=pipeline)
    thread.join()
    assert failed == []
    assert _states(actor, pipeline) == states
    assert _state(actor, pipeline) == "stopped"


def _wait_until_somebody_waits_for_a_row() -> None:
    for _ in range(1000):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            if cursor.fetchone()[0]:
                return
            cursor.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody waits")


# --- starting again ---------------------------------------------------------------------------------------------------


def test_from_a_stage_on_runs_are_made_anew_and_what_came_before_is_kept(actor: Actor, pipeline: Pipeline) -> None:
    _carried_on(actor, pipeline, "sft", "reward", "policy")
    sft, reward, policy = (run_of(actor, pipeline, name) for name in ("sft", "reward", "policy"))
    services.pipeline_restart(actor=actor, pipeline=pipeline, stage="reward", config={"learning_rate": 1e-6})
    assert _states(actor, pipeline) == ["succeeded", "queued", "waiting"]
    assert run_of(actor, pipeline, "sft") == sft
    again = run_of(actor, pipeline, "reward")
    assert again.config == {**reward.config, "learning_rate": 1e-6}
    assert again.parent == sft
    _carried_on(actor, pipeline, "reward")
    anew = run_of(actor, pipeline, "policy")
    assert anew.reward_model is not None
    assert anew.reward_model.checkpoint == again.run_checkpoints.get().checkpoint
    assert Run.objects.filter(pk__in=[reward.pk, policy.pk], status=Status.SUCCEEDED).count() == 2
    assert StageRun.objects.filter(is_current=False).count() == 2
    # A run of before is no longer the pipeline's to follow.
    finish(Run.objects.get(pk=anew.pk))
    assert _state(actor, pipeline) == "succeeded"


def test_a_failed_stage_is_started_again(actor: Actor, pipeline: Pipeline) -> None:
    finish(run_of(actor, pipeline, "sft"), Outcome.FAILED, **OUT_OF_MEMORY)
    with pytest.raises(Conflict, match="builds on Supervised fine-tuning, which has not succeeded"):
        services.pipeline_restart(actor=actor, pipeline=pipeline, stage="policy")
    services.pipeline_restart(actor=actor, pipeline=pipeline, stage="sft", config={"batch_size": 1})
    assert _states(actor, pipeline) == ["queued", "waiting", "waiting"]
    assert run_of(actor, pipeline, "sft").config["batch_size"] == 1


def test_restarting_needs_rest_a_known_stage_and_good_settings(actor: Actor, pipeline: Pipeline) -> None:
    with pytest.raises(Conflict, match="is queued") as running:
        services.pipeline_restart(actor=actor, pipeline=pipeline, stage="sft")
    assert running.value.advice == "Stop the pipeline first."
    services.pipeline_stop(actor=actor, pipeline=pipeline)
    with pytest.raises(Invalid) as caught:
        services.pipeline_restart(actor=actor, pipeline=pipeline, stage="ppo")
    assert caught.value.fields == {"stage": ["must be one of sft, reward, policy"]}
    with pytest.raises(ConfigError) as refused:
        services.pipeline_restart(actor=actor, pipeline=pipeline, stage="sft", config={"epochs": -1})
    assert list(refused.value.fields) == ["config.epochs"]
    with pytest.raises(Invalid) as unknown:
        services.pipeline_restart(actor=actor, pipeline=pipeline, stage="sft", method="kto")
    assert unknown.value.fields == {"method": ["must be one of sft"]}
    assert _states(actor, pipeline) == ["stopped", "waiting", "waiting"]


def test_a_checkpoint_that_was_deleted_meanwhile_is_named(actor: Actor, pipeline: Pipeline) -> None:
    _carried_on(actor, pipeline, "sft", "reward")
    services.pipeline_stop(actor=actor, pipeline=pipeline)
    reward = run_of(actor, pipeline, "reward")
    run_delete(actor=actor, run=run_of(actor, pipeline, "policy"))
    checkpoint_delete(actor=actor, checkpoint=reward.run_checkpoints.get().checkpoint)
    with pytest.raises(Conflict, match="checkpoint of Reward model is gone") as caught:
        services.pipeline_restart(actor=actor, pipeline=pipeline, stage="policy")
    assert caught.value.advice == "Start the pipeline again from Reward model."
    services.pipeline_restart(actor=actor, pipeline=pipeline, stage="reward")
    assert _states(actor, pipeline) == ["succeeded", "queued", "waiting"]


def test_a_stage_without_a_checkpoint_halts_the_next(actor: Actor, pipeline: Pipeline) -> None:
    sft = run_of(actor, pipeline, "sft")
    Run.objects.filter(pk=sft.pk).update(status=Status.SUCCEEDED)
    services.pipeline_follow(run=Run.objects.get(pk=sft.pk))
    problem = stages_of(actor, pipeline)["reward"].problem
    assert problem is not None
    assert "checkpoint of Supervised fine-tuning is gone" in problem["message"]
    assert _state(actor, pipeline) == "failed"


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_deleting_a_pipeline_leaves_its_runs(actor: Actor, pipeline: Pipeline, team: Team) -> None:
    with pytest.raises(Conflict):
        services.pipeline_delete(actor=actor, pipeline=pipeline)
    services.pipeline_stop(actor=actor, pipeline=pipeline)
    other = Actor(factories.make_user("mia", team))
    with pytest.raises(Forbidden):
        services.pipeline_delete(actor=other, pipeline=pipeline)
    services.pipeline_delete(actor=actor, pipeline=pipeline)
    assert (Pipeline.objects.count(), Run.objects.count()) == (0, 1)


def test_a_dataset_that_a_stage_waits_for_is_kept(actor: Actor, pipeline: Pipeline) -> None:
    prompts = stages_of(actor, pipeline)["policy"].dataset_version.dataset
    with pytest.raises(Conflict, match="pipeline stage is to train on this dataset"):
        dataset_delete(actor=actor, dataset=prompts)
    services.pipeline_stop(actor=actor, pipeline=pipeline)
    services.pipeline_delete(actor=actor, pipeline=pipeline)
    dataset_delete(actor=actor, dataset=prompts)
