"""Adding, preparing, naming and deleting models, by services and API."""

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from polm_core.errors import ModelError
from tests.support.api import ApiClient
from tests.support.checkpoints import make_base_model, make_checkpoint
from tests.support.runs import make_run
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, Team, User
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from webapp.registry import selectors, services
from webapp.registry.models import BaseModel, ModelSource, ModelStatus


@pytest.fixture
def root(tmp_path: Path, settings: Any) -> Path:
    """The one folder that models may be read from."""
    root = tmp_path / "models"
    root.mkdir()
    settings.MODEL_ROOTS = [root]
    return root


def add_hub(actor: Actor, hub_id: str = "owner/name", **values: Any) -> BaseModel:
    return services.model_add(actor=actor, team=actor.current_team, hub_id=hub_id, **values)


# --- adding -----------------------------------------------------------------------------------------------------------
def test_hub_model_waits_for_a_worker(actor: Actor) -> None:
    model = add_hub(actor, "HuggingFaceTB/SmolLM2-360M", revision="v1.0")
    assert (model.source, model.status, model.name) == ("hub", "preparing", "HuggingFaceTB/SmolLM2-360M")
    assert (model.hub_id, model.revision) == ("HuggingFaceTB/SmolLM2-360M", "v1.0")
    assert selectors.models_to_wake() == [model.pk]
    assert AuditEvent.objects.get(verb="model.add").target_id == str(model.pk)


@pytest.mark.parametrize(
    "hub_id",
    [
        "https://huggingface.co/a/b",
        "a/b/c",
        "../etc/passwd",
        "a/../b",
        "a--b",
        "-a/b",
        "a/b.",
        "a/b-",
        "a/b.git",
        "a/b\n",
        "a b",
        "ä/b",
        "x" * 97,
        "/a",
        "a/",
    ],
)
def test_a_malformed_hub_id_is_refused_at_its_field(actor: Actor, hub_id: str) -> None:
    if hub_id == "a/b\n":
        assert add_hub(actor, hub_id).hub_id == "a/b"
        return
    with pytest.raises(Invalid) as caught:
        add_hub(actor, hub_id)
    assert "owner/name" in caught.value.fields["hub_id"][0]
    assert not BaseModel.objects.exists()


@pytest.mark.parametrize("revision", ["../main", "-x", "a b", "x" * 101])
def test_a_malformed_revision_is_refused(actor: Actor, revision: str) -> None:
    with pytest.raises(Invalid) as caught:
        add_hub(actor, revision=revision)
    assert "revision" in caught.value.fields


def test_exactly_one_of_hub_id_and_path_is_asked_for(actor: Actor, root: Path) -> None:
    for values in ({}, {"hub_id": "a/b", "path": str(root / "x")}):
        with pytest.raises(Invalid) as caught:
            services.model_add(actor=actor, team=actor.current_team, **values)
        assert {"hub_id", "path"} == set(caught.value.fields)


def test_a_folder_below_the_root_is_added_under_its_name(actor: Actor, root: Path) -> None:
    model = services.model_add(actor=actor, team=actor.current_team, path=f" {root}/./tiny ")
    assert (model.name, model.path) == ("tiny", str(root / "tiny"))


@pytest.mark.parametrize(
    "path",
    ["/etc", "{root}", "{root}/../secret", "{root}x/model", "models/tiny", "file://{root}/x", "{root}/a\0b", "/" * 3],
)
def test_a_folder_outside_the_roots_is_refused(actor: Actor, root: Path, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        services.model_add(actor=actor, team=actor.current_team, path=path.format(root=root))
    assert str(root) in caught.value.fields["path"][0]


def test_a_link_that_leaves_the_root_is_refused(actor: Actor, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root / "loop")
    for name in ("link", "link/deeper"):
        with pytest.raises(Invalid):
            services.model_add(actor=actor, team=actor.current_team, path=str(root / name))


def test_names_are_unique_within_a_team(actor: Actor, other_actor: Actor) -> None:
    add_hub(actor)
    with pytest.raises(Invalid) as caught:
        add_hub(actor)
    assert "owner/name" in caught.value.fields["name"][0]
    assert add_hub(actor, name="again").name == "again"
    assert add_hub(other_actor).team == other_actor.team


@pytest.mark.parametrize("name", ["\0", "a\u202eb", "x" * 201, "\ud800"])
def test_an_unprintable_or_endless_name_is_refused(actor: Actor, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        add_hub(actor, name=name)
    assert "name" in caught.value.fields


def test_a_viewer_and_a_stranger_may_not_add(viewer: User, team: Team, other_actor: Actor) -> None:
    with pytest.raises(Forbidden):
        services.model_add(actor=Actor(viewer), team=team, hub_id="a/b")
    with pytest.raises(NotFound):
        services.model_add(actor=other_actor, team=team, hub_id="a/b")


# --- the starter ------------------------------------------------------------------------------------------------------
def test_the_starter_is_made_once_and_everyone_sees_it(db: None, actor: Actor, other_actor: Actor) -> None:
    starter = services.model_ensure_starter()
    assert services.model_ensure_starter().pk == starter.pk
    assert (starter.status, starter.team) == ("preparing", None)
    for someone in (actor, other_actor):
        assert selectors.model_get(someone, "starter").pk == starter.pk
        assert selectors.model_get(someone, str(starter.pk)).pk == starter.pk


def test_a_starter_that_failed_or_lost_its_files_is_prepared_again(db: None, tmp_path: Path) -> None:
    starter = services.model_ensure_starter()
    BaseModel.objects.update(status=ModelStatus.FAILED, error={"message": "x"}, attempts=3)
    starter = services.model_ensure_starter()
    assert (starter.status, starter.error, starter.attempts) == ("preparing", None, 0)

    BaseModel.objects.update(status=ModelStatus.READY)
    assert services.model_ensure_starter().status == "preparing"

    config = tmp_path / "config.json"
    config.write_text("{}")
    artifacts.put(config, "models/starter/config.json")
    BaseModel.objects.update(status=ModelStatus.READY)
    assert services.model_ensure_starter().status == "ready"
    artifacts.delete("models/starter")


def test_nobody_changes_the_starter(actor: Actor) -> None:
    starter = services.model_ensure_starter()
    with pytest.raises(Conflict):
        services.model_delete(actor=actor, model=starter)
    with pytest.raises(Conflict):
        services.model_rename(actor=actor, model=starter, name="mine")


# --- preparing --------------------------------------------------------------------------------------------------------
def test_only_one_worker_prepares_a_model(actor: Actor) -> None:
    model = add_hub(actor)
    claim = services.model_claim(model_id=model.pk)
    assert claim is not None
    assert services.model_claim(model_id=model.pk) is None
    assert selectors.models_to_wake() == []
    assert services.model_progress(model=claim, phase="downloading", fraction=0.5)
    assert services.model_ready(model=claim, parameters=7, context_length=64, revision="abc")
    model.refresh_from_db()
    assert (model.status, model.parameters, model.context_length, model.revision) == ("ready", 7, 64, "abc")
    assert services.model_claim(model_id=model.pk) is None


def test_a_worker_that_lost_its_claim_changes_nothing(actor: Actor) -> None:
    model = add_hub(actor)
    slow = services.model_claim(model_id=model.pk)
    BaseModel.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert selectors.models_to_wake() == [model.pk]
    quick = services.model_claim(model_id=model.pk)
    assert slow is not None
    assert quick is not None
    assert not services.model_progress(model=slow, phase="downloading", fraction=0.9)
    assert not services.model_fail(model=slow, error=ModelError("late"))
    assert services.model_ready(model=quick, parameters=1, context_length=None)
    assert not services.model_fail(model=slow, error=ModelError("later"))
    model.refresh_from_db()
    assert (model.status, model.error) == ("ready", None)


def test_a_model_whose_workers_all_die_is_given_up(actor: Actor) -> None:
    model = add_hub(actor)
    for _ in range(services.MAX_ATTEMPTS):
        assert services.model_claim(model_id=model.pk)
        BaseModel.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert services.model_claim(model_id=model.pk) is None
    model.refresh_from_db()
    assert model.status == "failed"
    assert model.error is not None
    assert "interrupted" in model.error["message"]


def test_a_released_claim_does_not_count(actor: Actor) -> None:
    model = add_hub(actor)
    for _ in range(services.MAX_ATTEMPTS + 1):
        claim = services.model_claim(model_id=model.pk)
        assert claim is not None
        services.model_release(model=claim)
    assert selectors.models_to_wake() == [model.pk]


def test_a_failed_model_can_be_tried_again(actor: Actor, viewer: User) -> None:
    model = add_hub(actor)
    claim = services.model_claim(model_id=model.pk)
    assert claim is not None
    with pytest.raises(Conflict):
        services.model_retry(actor=actor, model=model)
    services.model_fail(model=claim, error=ModelError("offline", advice="check the network"))
    with pytest.raises(Forbidden):
        services.model_retry(actor=Actor(viewer), model=model)
    services.model_retry(actor=actor, model=model)
    model.refresh_from_db()
    assert (model.status, model.error) == ("preparing", None)
    # An old worker of the first round is still locked out.
    assert services.model_claim(model_id=model.pk)
    assert not services.model_ready(model=claim, parameters=1, context_length=None)


# --- deleting ---------------------------------------------------------------------------------------------------------
def test_deleting_removes_row_and_files(actor: Actor, tmp_path: Path, django_capture_on_commit_callbacks: Any) -> None:
    model = add_hub(actor)
    (tmp_path / "x").write_text("x")
    artifacts.put(tmp_path / "x", f"models/{model.pk}/config.json")
    with django_capture_on_commit_callbacks(execute=True):
        services.model_delete(actor=actor, model=model)
    assert not BaseModel.objects.exists()
    assert not artifacts.exists(f"models/{model.pk}")


def test_a_model_that_a_run_or_checkpoint_needs_stays(actor: Actor, team: Team) -> None:
    run = make_run(team)
    with pytest.raises(Conflict) as caught:
        services.model_delete(actor=actor, model=run.model)
    assert caught.value.fields["used_by"] == [str(run.pk)]
    scored = make_run(team, "scored", reward_model=make_base_model(team, "scorer"))
    assert scored.reward_model is not None
    with pytest.raises(Conflict) as caught:
        services.model_delete(actor=actor, model=scored.reward_model)
    assert caught.value.fields["used_by"] == [str(scored.pk)]
    checkpoint = make_checkpoint(team, base_model=make_base_model(team, "other"))
    assert checkpoint.base_model is not None
    with pytest.raises(Conflict) as caught:
        services.model_delete(actor=actor, model=checkpoint.base_model)
    assert caught.value.fields["used_by"] == [str(checkpoint.pk)]
    assert not AuditEvent.objects.filter(verb="model.delete").exists()


# --- the API ----------------------------------------------------------------------------------------------------------
def test_api_adds_lists_renames_and_deletes(api: ApiClient, db: None) -> None:
    services.model_ensure_starter()
    added = api.post("/models", {"hub_id": "owner/name"})
    assert added.status_code == 201
    pk = added.json()["id"]
    assert {item["source"] for item in api.get("/models").json()["items"]} == {"starter", "hub"}
    first = api.get("/models?limit=1").json()
    assert len(first["items"]) == 1
    assert len(api.get("/models", {"limit": 1, "cursor": first["next_cursor"]}).json()["items"]) == 1
    assert api.patch(f"/models/{pk}", {"name": "mine"}).json()["name"] == "mine"
    assert api.delete(f"/models/{pk}").status_code == 204
    assert api.get(f"/models/{pk}").status_code == 404
    assert api.get("/models/starter").json()["status"] == "preparing"
    assert api.delete("/models/starter").status_code == 409


def test_api_refuses_what_is_wrong_with_the_field(api: ApiClient) -> None:
    for body, field in (
        ({"hub_id": "http://x"}, "hub_id"),
        ({"path": "/etc/passwd"}, "path"),
        ({}, "hub_id"),
        ({"hub_id": "a/b", "trust_remote_code": True}, "trust_remote_code"),
        ({"hub_id": 7}, "hub_id"),
    ):
        answer = api.post("/models", body)
        assert answer.status_code == 422, body
        assert field in answer.json()["error"]["fields"], answer.json()


def test_api_hides_other_teams(api_of: Any, outsider: User, actor: Actor) -> None:
    model = add_hub(actor)
    stranger = api_of(outsider)
    assert stranger.get("/models").json()["items"] == []
    for answer in (
        stranger.get(f"/models/{model.pk}"),
        stranger.patch(f"/models/{model.pk}", {"name": "x"}),
        stranger.post(f"/models/{model.pk}/retry"),
        stranger.delete(f"/models/{model.pk}"),
        stranger.get("/models/not-an-id"),
        stranger.get(f"/models/{uuid.uuid4()}"),
        stranger.post("/models", {"hub_id": "a/b", "team": str(model.team_id)}),
    ):
        assert answer.status_code == 404
    model.refresh_from_db()
    assert model.name == "owner/name"


def test_api_lets_a_viewer_read_only(api_of: Any, viewer: User, actor: Actor) -> None:
    model = add_hub(actor)
    reader = api_of(viewer)
    assert reader.get(f"/models/{model.pk}").status_code == 200
    assert reader.post("/models", {"hub_id": "a/b"}).status_code == 403
    assert reader.patch(f"/models/{model.pk}", {"name": "x"}).status_code == 403
    assert reader.delete(f"/models/{model.pk}").status_code == 403


# --- for runs ---------------------------------------------------------------------------------------------------------
def test_a_run_resolves_starter_model_and_checkpoint(actor: Actor, team: Team) -> None:
    starter = services.model_ensure_starter()
    checkpoint = make_checkpoint(team)
    assert checkpoint.base_model is not None
    assert services.model_resolve_for_run(actor, "starter") == starter
    assert services.model_resolve_for_run(actor, str(checkpoint.base_model_id)) == checkpoint.base_model
    registered = services.model_resolve_for_run(actor, str(checkpoint.pk))
    assert (registered.source, registered.checkpoint, registered.team) == (ModelSource.CHECKPOINT, checkpoint, team)
    assert registered.parameters == checkpoint.base_model.parameters
    assert services.model_resolve_for_run(actor, str(checkpoint.pk)) == registered


@pytest.mark.parametrize("ref", ["", "/etc/passwd", "../starter", "gpt2", "00000000-0000-0000-0000-000000000000"])
def test_a_run_is_told_what_a_model_may_be(actor: Actor, ref: str) -> None:
    with pytest.raises(Invalid) as caught:
        services.model_resolve_for_run(actor, ref)
    assert "starter" in caught.value.fields["model"][0]


def test_a_run_does_not_reach_another_teams_model(actor: Actor, other_team: Team, member: User) -> None:
    theirs = make_base_model(other_team)
    with pytest.raises(Invalid):
        services.model_resolve_for_run(actor, str(theirs.pk))
    # Not even for somebody who is in both teams: the run's team would come to own what it was made from.
    member.memberships.create(team=other_team, role="member")
    both = Actor(member)
    with pytest.raises(Invalid):
        services.model_resolve_for_run(both, str(theirs.pk), team=both.memberships[0].team)
    assert services.model_resolve_for_run(both, str(theirs.pk), team=other_team) == theirs


def test_the_default_root_is_below_var() -> None:
    assert django_settings.MODEL_ROOTS == [django_settings.VAR_DIR / "models"]
