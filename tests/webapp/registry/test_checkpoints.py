"""Recording, reading, registering and deleting checkpoints."""

import math
from pathlib import Path
from typing import Any

import pytest

from polm_core.run_dir import Manifest, ManifestFile
from tests.support.api import ApiClient
from tests.support.checkpoints import make_base_model, make_checkpoint, sealed_checkpoint, store
from tests.support.runs import make_run
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from webapp.registry import selectors, services
from webapp.registry.models import BaseModel, Checkpoint
from webapp.registry.shares import share_create
from webapp.runs.models import Run, RunCheckpoint

SHA = "0" * 64


def create(team: Team, key: str, manifest: Manifest) -> Checkpoint:
    return services.checkpoint_create(
        team_id=team.pk, name="x", key=key, manifest=manifest, sha256=SHA, base_model=make_base_model(team)
    )


def manifest_of(*paths: str, **values: Any) -> Manifest:
    files = [ManifestFile(path=path, size=0, sha256=SHA) for path in paths]
    return Manifest(step=1, kind="model", method="sft", base_model="b", files=files, **values)


# --- recording --------------------------------------------------------------------------------------------------------
def test_a_stored_checkpoint_is_recorded_with_what_it_holds(team: Team) -> None:
    checkpoint = make_checkpoint(team)
    paths = [file["path"] for file in checkpoint.files]
    assert paths == ["1_nested/empty.txt", "adapter.safetensors", "config.json", "optimizer.bin"]
    assert [file["path"] for file in checkpoint.download_files] == paths[:3]
    assert checkpoint.bytes == sum(file["size"] for file in checkpoint.files)
    assert checkpoint.sha256 == artifacts.digest(f"{checkpoint.key}/manifest.json")
    assert checkpoint.key_metric == ("eval/loss", 1.5)


def test_the_same_key_gives_the_first_checkpoint(team: Team, tmp_path: Path) -> None:
    manifest = sealed_checkpoint(tmp_path)
    store(tmp_path, 20, manifest, "runs/a/step-20")
    first = create(team, "runs/a/step-20", manifest)
    changed = manifest.model_copy(update={"metrics": {"loss": 0.0}})
    assert create(team, "runs/a/step-20", changed) == first
    assert Checkpoint.objects.get().metrics == {"eval/loss": 1.5, "loss": 1.75}


def test_a_checkpoint_that_is_not_whole_is_not_recorded(team: Team, tmp_path: Path) -> None:
    manifest = sealed_checkpoint(tmp_path)
    store(tmp_path, 20, manifest, "runs/b/step-20")
    artifacts.delete("runs/b/step-20/config.json")
    with pytest.raises(Invalid, match=r"config\.json"):
        create(team, "runs/b/step-20", manifest)
    (tmp_path / "short").write_text("{")
    artifacts.put(tmp_path / "short", "runs/b/step-20/config.json")
    with pytest.raises(Invalid, match=r"config\.json"):
        create(team, "runs/b/step-20", manifest)
    assert not Checkpoint.objects.exists()


@pytest.mark.parametrize(
    "path",
    [
        "../config.json",
        "a/../../b",
        "/etc/passwd",
        "./a",
        "a//b",
        "a/",
        "",
        "..",
        "a\\b",
        "C:evil",
        "a\0",
        "a\nb",
        "a\u202eb",
        "nul.",
        "manifest.json",
    ],
)
def test_a_manifest_that_leaves_its_folder_is_refused(team: Team, path: str) -> None:
    with pytest.raises(Invalid, match="manifest"):
        create(team, "runs/c/step-1", manifest_of("config.json", path))


@pytest.mark.parametrize("key", ["../runs/c", "/runs/c", "runs/../c", ""])
def test_a_key_that_leaves_the_store_is_refused(team: Team, key: str) -> None:
    with pytest.raises(Invalid, match="manifest"):
        create(team, key, manifest_of("config.json"))


def test_a_manifest_must_be_consistent(team: Team) -> None:
    for manifest in (
        manifest_of(),
        manifest_of("a", "a"),
        manifest_of("a", trainer_state=["a"]),
        manifest_of("a", trainer_state=["b"]),
        manifest_of("a").model_copy(update={"kind": "pickle"}),
        manifest_of("a").model_copy(update={"files": [ManifestFile(path="a", size=1, sha256="xyz")]}),
    ):
        with pytest.raises(Invalid, match="manifest"):
            create(team, "runs/d/step-1", manifest)


def test_metrics_that_are_no_numbers_are_left_out(team: Team, tmp_path: Path) -> None:
    manifest = sealed_checkpoint(tmp_path)
    store(tmp_path, 20, manifest, "runs/e/step-20")
    manifest = manifest.model_copy(update={"metrics": {"loss": math.nan, "grad_norm": math.inf, "epoch": 1.0}})
    assert create(team, "runs/e/step-20", manifest).metrics == {"epoch": 1.0}


# --- reading ----------------------------------------------------------------------------------------------------------
def test_another_team_does_not_see_it(checkpoint: Checkpoint, actor: Actor, other_actor: Actor) -> None:
    assert selectors.checkpoint_get(actor, checkpoint.pk) == checkpoint
    assert not selectors.checkpoints_visible(other_actor).exists()
    for pk in (checkpoint.pk, str(checkpoint.pk), "nonsense", None):
        with pytest.raises(NotFound):
            selectors.checkpoint_get(other_actor, pk)


def test_lineage_goes_both_ways_and_stays_bounded(team: Team, other_team: Team, actor: Actor) -> None:
    first = make_checkpoint(team, "first")
    second = make_checkpoint(team, "second", parent=first)
    third = make_checkpoint(team, "third", parent=second)
    make_checkpoint(other_team, "theirs", parent=second)
    seen = selectors.lineage(actor, second)
    assert (seen.ancestors, seen.descendants) == ([first], [third])
    assert selectors.lineage(actor, third).ancestors == [second, first]
    Checkpoint.objects.filter(pk=first.pk).update(parent=third)  # a ring cannot be made, and must not hang us
    assert selectors.lineage(actor, Checkpoint.objects.get(pk=third.pk)).ancestors == [second, first]


# --- registering ------------------------------------------------------------------------------------------------------
def test_registering_makes_a_model_once(actor: Actor, team: Team, checkpoint: Checkpoint) -> None:
    model = services.checkpoint_register(actor=actor, checkpoint=checkpoint, team=team)
    assert (model.name, model.checkpoint, model.status) == (checkpoint.name, checkpoint, "ready")
    again = services.checkpoint_register(actor=actor, checkpoint=checkpoint, team=team, name="better name")
    assert (again.pk, again.name) == (model.pk, "better name")
    assert selectors.lineage(actor, checkpoint).registrations == [model]


def test_a_second_checkpoint_of_that_name_gets_another(actor: Actor, team: Team) -> None:
    names = {
        services.checkpoint_register(actor=actor, checkpoint=make_checkpoint(team, "same"), team=team).name
        for _ in range(3)
    }
    assert len(names) == 3
    assert all(name.startswith("same") for name in names)


def test_registering_needs_a_role_and_sight(viewer: User, team: Team, other_actor: Actor, actor: Actor) -> None:
    checkpoint = make_checkpoint(team)
    with pytest.raises(Forbidden):
        services.checkpoint_register(actor=Actor(viewer), checkpoint=checkpoint, team=team)
    with pytest.raises(NotFound):
        services.checkpoint_register(actor=other_actor, checkpoint=checkpoint, team=other_actor.current_team)


# --- deleting ---------------------------------------------------------------------------------------------------------
def test_deleting_takes_files_shares_and_unused_registrations(
    actor: Actor, team: Team, checkpoint: Checkpoint, django_capture_on_commit_callbacks: Any
) -> None:
    services.checkpoint_register(actor=actor, checkpoint=checkpoint, team=team)
    run = make_run(team)
    RunCheckpoint.objects.create(run=run, checkpoint=checkpoint, step=20)
    with django_capture_on_commit_callbacks(execute=True):
        services.checkpoint_delete(actor=actor, checkpoint=checkpoint)
    assert not Checkpoint.objects.exists()
    assert not BaseModel.objects.filter(source="checkpoint").exists()
    assert not artifacts.exists(checkpoint.key)
    run.refresh_from_db()


def test_a_checkpoint_that_a_run_started_from_stays(actor: Actor, team: Team, checkpoint: Checkpoint) -> None:
    model = services.checkpoint_register(actor=actor, checkpoint=checkpoint, team=team)
    run = make_run(team)
    Run.objects.filter(pk=run.pk).update(model=model)
    with pytest.raises(Conflict) as caught:
        services.checkpoint_delete(actor=actor, checkpoint=checkpoint)
    assert caught.value.fields["used_by"] == [str(run.pk)]
    assert artifacts.exists(f"{checkpoint.key}/config.json")


def test_other_teams_runs_are_counted_but_not_named(
    actor: Actor, other_actor: Actor, other_team: Team, checkpoint: Checkpoint
) -> None:
    share_create(actor=actor, checkpoint=checkpoint, team="blue")
    model = services.model_resolve_for_run(other_actor, str(checkpoint.pk))
    run = make_run(other_team, model=model)
    with pytest.raises(Conflict, match="1 more") as caught:
        services.checkpoint_delete(actor=actor, checkpoint=checkpoint)
    assert caught.value.fields["used_by"] == []
    assert str(run.pk) not in caught.value.message


# --- the API ----------------------------------------------------------------------------------------------------------
def test_api_lists_and_shows(api: ApiClient, team: Team) -> None:
    run = make_run(team)
    older, newer = make_checkpoint(team, "older"), make_checkpoint(team, "newer", step=40)
    RunCheckpoint.objects.create(run=run, checkpoint=newer, step=40)
    items = api.get("/checkpoints").json()["items"]
    assert [item["id"] for item in items] == [str(newer.pk), str(older.pk)]
    assert [item["run"] for item in items] == [str(run.pk), None]
    shown = api.get(f"/checkpoints/{newer.pk}").json()
    assert shown["files"] == newer.download_files
    assert (shown["step"], shown["sha256"], shown["metrics"]) == (40, newer.sha256, newer.metrics)
    assert "key" not in shown


def test_api_registers_and_deletes(api: ApiClient, checkpoint: Checkpoint) -> None:
    made = api.post(f"/checkpoints/{checkpoint.pk}/register", {"name": "mine"})
    assert (made.status_code, made.json()["checkpoint"]) == (201, str(checkpoint.pk))
    assert api.delete(f"/checkpoints/{checkpoint.pk}").status_code == 204
    assert api.get(f"/checkpoints/{checkpoint.pk}").status_code == 404


def test_api_hides_other_teams(api_of: Any, outsider: User, viewer: User, checkpoint: Checkpoint) -> None:
    stranger, reader = api_of(outsider), api_of(viewer)
    path = f"/checkpoints/{checkpoint.pk}"
    for answer in (
        stranger.get(path),
        stranger.get(f"{path}/download"),
        stranger.get(f"{path}/shares"),
        stranger.post(f"{path}/register", {}),
        stranger.post(f"{path}/share", {"link": True}),
        stranger.delete(path),
    ):
        assert answer.status_code == 404
    assert reader.get(path).status_code == 200
    for answer in (
        reader.post(f"{path}/register", {}),
        reader.post(f"{path}/share", {"link": True}),
        reader.delete(path),
    ):
        assert answer.status_code == 403
