"""Preparing models, with real child processes, and finding them on the disk."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from polm_core.errors import ModelError, ResourceError
from tests.support.checkpoints import make_base_model, make_checkpoint
from tests.support.hub import COMMIT, FakeHub, fake_hub
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.accounts.services import HUB_TOKEN, secret_set
from webapp.registry import services
from webapp.registry.models import BaseModel, ModelStatus
from webapp.studio.identity import Identity
from workers import models, presence
from workers.jobs import JobInterrupted, run_job

WEIGHTS = save({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)})
CONFIG = b'{"model_type": "llama", "max_position_embeddings": 256}'
FILES = {
    "config.json": CONFIG,
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "README.md": b"# hello",
    "pytorch_model.bin": b"pickle",
    "modeling.py": b"print('code')",
    "onnx/model.safetensors": WEIGHTS,
    "consolidated.safetensors": WEIGHTS,
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Iterator[FakeHub]:
    settings.CACHE_DIR = tmp_path / "cache"
    with fake_hub() as hub:
        hub.models["owner/tiny"] = dict(FILES)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def root(settings: Any, tmp_path: Path) -> Path:
    settings.MODEL_ROOTS = [tmp_path]
    return tmp_path


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


def prepared(actor: Actor, **where: str) -> BaseModel:
    """The model after a worker has been at it."""
    model = services.model_add(actor=actor, team=actor.current_team, **where)
    models.prepare(str(model.pk))
    model.refresh_from_db()
    return model


def error_of(model: BaseModel) -> dict[str, Any]:
    assert model.status == ModelStatus.FAILED, model.status
    assert model.error is not None
    return dict(model.error)


# --- from a hub -------------------------------------------------------------------------------------------------------
def test_a_hub_model_is_fetched_without_code_or_pickles(actor: Actor, hub: FakeHub) -> None:
    model = prepared(actor, hub_id="owner/tiny")
    assert (model.status, model.error) == ("ready", None)
    assert (model.revision, model.parameters, model.context_length) == (COMMIT, 17, 256)
    folder, adapter = models.local_path(model)
    assert adapter is None
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not {"pytorch_model.bin", "modeling.py"} & set(hub.fetched)
    assert not models._workplace(model).exists()


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"config.json": CONFIG, "pytorch_model.bin": b"x"}, "model.unsafe"),
        ({"config.json": CONFIG, "sub/model.safetensors": WEIGHTS}, "model.unsafe"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": WEIGHTS}, "model.missing"),
        ({"README.md": b"x"}, "model.missing"),
        ({"config.json": CONFIG, "model.safetensors": b"not weights"}, "model.damaged"),
        ({"config.json": b"not json", "model.safetensors": WEIGHTS}, "model.invalid"),
        ({"config.json": b'{"auto_map": {"A": "b.C"}}', "model.safetensors": WEIGHTS}, "model.remote_code"),
    ],
)
def test_a_hub_model_that_cannot_be_used_says_why(
    actor: Actor, hub: FakeHub, files: dict[str, bytes], code: str
) -> None:
    hub.models["owner/tiny"] = files
    model = prepared(actor, hub_id="owner/tiny")
    assert error_of(model)["code"] == code
    assert not artifacts.exists(f"models/{model.pk}")


def test_what_the_hub_does_not_have_is_said_so(actor: Actor, hub: FakeHub) -> None:
    assert error_of(prepared(actor, hub_id="owner/other"))["code"] == "model.missing"
    problem = error_of(prepared(actor, hub_id="owner/tiny", revision="v9"))
    assert "no revision v9" in problem["message"]


def test_a_damaged_download_is_noticed(actor: Actor, hub: FakeHub) -> None:
    hub.damaged.add("model.safetensors")
    assert "damaged" in error_of(prepared(actor, hub_id="owner/tiny"))["message"]


def test_an_unreachable_hub_is_a_clear_error_and_can_be_retried(
    actor: Actor, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    model = prepared(actor, hub_id="owner/tiny")
    problem = error_of(model)
    assert problem["code"] == "model.hub_unreachable"
    assert "http://127.0.0.1:9" in problem["message"]
    assert "HF_ENDPOINT" in problem["advice"]
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    services.model_retry(actor=actor, model=model)
    models.prepare(str(model.pk))
    model.refresh_from_db()
    assert model.status == "ready"


def test_a_gated_model_needs_the_teams_token(actor: Actor, admin: User, team: Team, hub: FakeHub) -> None:
    hub.gated.add("owner/tiny")
    model = prepared(actor, hub_id="owner/tiny")
    assert error_of(model)["code"] == "model.gated"
    secret_set(actor=Actor(admin), team=team, name=HUB_TOKEN, value=hub.token)
    services.model_retry(actor=actor, model=model)
    models.prepare(str(model.pk))
    model.refresh_from_db()
    assert model.status == "ready"


def test_a_worker_that_shuts_down_gives_the_model_back(
    actor: Actor, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    stopping.set()
    monkeypatch.setattr(presence, "shutting_down", stopping)
    model = prepared(actor, hub_id="owner/tiny")
    assert (model.status, model.attempts, model.lease_until) == ("preparing", 0, None)


def test_a_model_that_is_deleted_meanwhile_leaves_nothing(
    actor: Actor, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = artifacts.put_verified

    def put_and_delete(source: Path, key: str, sha256: str) -> None:
        put(source, key, sha256)
        time.sleep(0.7)  # until the worker looks at its claim again

    monkeypatch.setattr(artifacts, "put_verified", put_and_delete)
    told = models.model_progress

    def delete_while_storing(**values: Any) -> bool:
        if values["phase"] == "storing":
            BaseModel.objects.filter(pk=values["model"].pk).delete()
        return told(**values)

    monkeypatch.setattr(models, "model_progress", delete_while_storing)
    model = services.model_add(actor=actor, team=actor.current_team, hub_id="owner/tiny")
    models.prepare(str(model.pk))
    assert not artifacts.exists(f"models/{model.pk}")
    assert not models._workplace(model).exists()


# --- from a folder ----------------------------------------------------------------------------------------------------
def test_a_folder_is_checked_and_used_where_it_is(actor: Actor, root: Path) -> None:
    folder = write_model(root / "tiny")
    model = prepared(actor, path=str(folder))
    assert (model.status, model.parameters, model.context_length) == ("ready", 17, 256)
    assert models.local_path(model) == (folder, None)


def test_a_folder_that_cannot_be_used_says_why(actor: Actor, root: Path) -> None:
    assert error_of(prepared(actor, path=str(root / "nowhere")))["code"] == "model.missing"
    pickled = write_model(root / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert error_of(prepared(actor, path=str(pickled)))["code"] == "model.unsafe"
    torn = write_model(root / "torn")
    (torn / "model.safetensors").write_bytes(WEIGHTS[:-4])
    assert error_of(prepared(actor, path=str(torn)))["code"] == "model.damaged"
    bare = root / "bare"
    bare.mkdir()
    save_file({"a": np.zeros(1)}, bare / "model.safetensors")
    assert error_of(prepared(actor, path=str(bare)))["code"] == "model.missing"


def test_a_folder_that_became_a_link_to_elsewhere_is_refused(actor: Actor, root: Path, settings: Any) -> None:
    inside = root / "roots"
    settings.MODEL_ROOTS = [inside]
    folder = write_model(inside / "tiny")
    model = prepared(actor, path=str(folder))
    secret = write_model(root / "secret")
    folder.rename(inside / "moved")
    folder.symlink_to(secret)
    with pytest.raises(Exception, match="not read from there"):
        models.local_path(model)


# --- the starter ------------------------------------------------------------------------------------------------------
def test_the_starter_is_put_into_the_store(db: None, settings: Any, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path
    write_model(tmp_path / "models" / "starter")  # the conversion finds its work done
    starter = services.model_ensure_starter()
    models.prepare(str(starter.pk))
    starter.refresh_from_db()
    assert (starter.status, starter.parameters) == ("ready", 17)
    folder, _ = models.local_path(starter)
    assert folder == artifacts.local_folder("models/starter")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    artifacts.delete("models/starter")


# --- finding ----------------------------------------------------------------------------------------------------------
def test_an_adapter_comes_with_the_model_below_it(team: Team, root: Path) -> None:
    base = make_base_model(team)
    BaseModel.objects.filter(pk=base.pk).update(path=str(write_model(root / "base")))
    base.refresh_from_db()
    adapter = make_checkpoint(team, base_model=base)
    full = make_checkpoint(team, "full", kind="model", base_model=base)
    assert models.checkpoint_path(adapter) == (root / "base", artifacts.local_folder(adapter.key))
    assert models.checkpoint_path(full) == (artifacts.local_folder(full.key), None)
    registered = BaseModel(team=team, name="r", source="checkpoint", checkpoint=adapter)
    assert models.local_path(registered) == models.checkpoint_path(adapter)
    # An adapter that was trained on from another stands on the same base.
    registered.save()
    second = make_checkpoint(team, "second", base_model=registered)
    assert models.checkpoint_path(second) == (root / "base", artifacts.local_folder(second.key))


def test_a_model_that_is_not_ready_is_not_found(actor: Actor) -> None:
    model = services.model_add(actor=actor, team=actor.current_team, hub_id="a/b")
    with pytest.raises(ModelError, match="not ready"):
        models.local_path(model)


def test_a_model_whose_files_are_gone_is_not_found(team: Team) -> None:
    model = BaseModel.objects.create(team=team, name="x", source="hub", hub_id="a/b")
    with pytest.raises(ModelError):
        models.local_path(model)


# --- child processes --------------------------------------------------------------------------------------------------
def test_a_job_is_killed_with_all_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = (
        "import pathlib, subprocess, time; child = subprocess.Popen(['sleep', '60']);"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid)); time.sleep(60)"
    )
    with pytest.raises(JobInterrupted):
        run_job(
            [sys.executable, "-c", script],
            log=tmp_path / "log",
            go_on=lambda: not pid_file.exists() or not pid_file.read_text(),
            seconds=30,
        )
    pid = int(pid_file.read_text())
    for _ in range(50):
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "zombie" in status.read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the grandchild lives on")


def test_what_a_killed_worker_left_running_is_ended_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    orphan = subprocess.Popen(["sleep", "60"], start_new_session=True)
    identity = Identity.of(orphan.pid)
    assert identity is not None
    identity.write(log.with_suffix(".child.json"))
    assert run_job(["true"], log=log, go_on=lambda: True, seconds=30) == 0
    assert orphan.wait(10) == -signal.SIGKILL
    assert not log.with_suffix(".child.json").exists()


def test_a_job_that_takes_too_long_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="took over"):
        run_job(["sleep", "30"], log=tmp_path / "log", go_on=lambda: True, seconds=0.4)


def test_a_job_does_not_see_the_studios_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "s")
    monkeypatch.setenv("DATABASE_URL", "d")
    script = "import os,json; print(json.dumps(dict(os.environ)))"
    log = tmp_path / "log"
    assert run_job([sys.executable, "-c", script], log=log, go_on=lambda: True, seconds=30, env={"HF_TOKEN": "t"}) == 0
    seen = json.loads(log.read_text())
    assert not {"SECRET_KEY", "DATABASE_URL"} & seen.keys()
    assert seen["HF_TOKEN"] == "t"


def test_the_supervising_process_never_imports_torch() -> None:
    script = (
        "import django, os; os.environ['DJANGO_SETTINGS_MODULE'] = 'webapp.settings'; django.setup();"
        "import sys, workers.models, workers.playground, workers.hub;"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
