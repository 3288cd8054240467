"""Exports: what may be asked for, who may fetch it, what the page shows, and when a worker refuses."""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.test import Client
from safetensors.numpy import save_file

from polm_core.export import ExportFormat
from tests.support.api import ApiClient
from tests.support.checkpoints import make_checkpoint
from tests.support.exports import checkpoint_of, make_export
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.claimed import WorkStatus
from webapp.errors import Conflict, Invalid, NotFound
from webapp.registry import exports as services
from webapp.registry.downloads import DamagedFile
from webapp.registry.models import BaseModel, Checkpoint, Export, ModelSource, ParityCheck, exports_key
from webapp.registry.services import checkpoint_delete
from webapp.registry.shares import share_create
from workers import exports

FIRST = "gguf-q8_0"


def ask(actor: Actor, checkpoint: Checkpoint, format_: str = FIRST) -> Export:
    return services.export_create(actor=actor, checkpoint=checkpoint, format=format_)


# --- asking -----------------------------------------------------------------------------------------------------------
def test_the_same_export_is_made_once_and_a_failed_one_anew(actor: Actor, checkpoint: Checkpoint) -> None:
    first = ask(actor, checkpoint)
    assert ask(actor, checkpoint) == first
    assert ask(actor, checkpoint, "merged") != first
    Export.objects.update(status=WorkStatus.DONE)
    assert ask(actor, checkpoint) == first
    Export.objects.update(status=WorkStatus.FAILED)
    assert ask(actor, checkpoint) != first
    assert Export.objects.filter(format=FIRST).count() == 1


@pytest.mark.parametrize(
    ("values", "format_", "said"),
    [
        ({}, "gguf-q2_k", "must be one of merged, gguf-f16"),
        ({"kind": "model"}, "merged", "must be one of gguf-f16"),
        ({"method": "reward-model"}, "merged", "no choice"),
        ({"method": "prm"}, "gguf-f16", "no choice"),
    ],
)
def test_what_a_checkpoint_cannot_become_is_refused(
    actor: Actor, team: Team, values: dict[str, str], format_: str, said: str
) -> None:
    method = values.pop("method", None)
    checkpoint = make_checkpoint(team, **values)
    if method:
        Checkpoint.objects.update(method=method)
        checkpoint.refresh_from_db()
    with pytest.raises(Invalid) as caught:
        ask(actor, checkpoint, format_)
    assert said in caught.value.fields["format"][0]
    assert not Export.objects.exists()


def test_an_adapter_without_its_base_is_refused(actor: Actor, checkpoint: Checkpoint) -> None:
    Checkpoint.objects.update(base_model=None)
    with pytest.raises(Conflict, match="under the adapter is gone"):
        ask(actor, checkpoint)


def test_a_checkpoint_that_was_deleted_meanwhile_is_not_found(actor: Actor, checkpoint: Checkpoint) -> None:
    Checkpoint.objects.all().delete()
    with pytest.raises(NotFound):
        ask(actor, checkpoint)


def test_outstanding_work_is_bounded(actor: Actor, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_OPEN", 1)
    ask(actor, checkpoint)
    with pytest.raises(Conflict, match="outstanding"):
        ask(actor, checkpoint, "merged")


def full(_: Any) -> Any:
    return shutil._ntuple_diskusage(10**12, 10**12, 0)  # type: ignore[attr-defined]


def test_without_room_nothing_is_begun(
    api: ApiClient, pages: Client, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", full)
    answer = api.post(f"/checkpoints/{checkpoint.pk}/exports", {"format": FIRST})
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "resource.disk")
    form = "application/x-www-form-urlencoded"
    page = pages.post(f"/models/checkpoints/{checkpoint.pk}/exports", f"format={FIRST}", content_type=form)
    assert page.status_code == 507
    assert "the disk has" in page.content.decode()
    assert not Export.objects.exists()


# --- fetching and deleting --------------------------------------------------------------------------------------------
def test_those_who_read_the_checkpoint_fetch_its_exports(
    api: ApiClient, api_of: Any, actor: Actor, outsider: User, checkpoint: Checkpoint
) -> None:
    one = make_export(checkpoint)
    path, theirs = f"/exports/{one.pk}/download", api_of(outsider)
    answer = api.get(path)
    assert answer.getvalue() == b"GGUF" * 300_000
    assert answer.headers["Content-Disposition"] == 'attachment; filename="first-20.gguf"'
    assert answer.headers["Content-Length"] == "1200000"
    assert theirs.get(path).status_code == 404
    share_create(actor=actor, checkpoint=checkpoint, link=True)
    assert theirs.get(path).status_code == 404
    share = share_create(actor=actor, checkpoint=checkpoint, team="blue")
    assert theirs.get(path).getvalue() == b"GGUF" * 300_000
    share.refresh_from_db()
    assert share.downloads == 1
    assert theirs.get(f"/checkpoints/{checkpoint.pk}/exports").json()["items"][0]["bytes"] == 1_200_000
    assert theirs.delete(f"/exports/{one.pk}").status_code == 404
    assert api.get("/exports/nonsense/download").status_code == 404


def test_several_files_come_as_a_zip(api: ApiClient, checkpoint: Checkpoint) -> None:
    one = make_export(checkpoint, "merged", content=b"weights")
    with zipfile.ZipFile(io.BytesIO(api.get(f"/exports/{one.pk}/download").getvalue())) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == {
            "first-20-merged/first-20.safetensors": b"weights"
        }


def test_what_is_not_there_or_not_whole_is_not_sent(api: ApiClient, actor: Actor, checkpoint: Checkpoint) -> None:
    waiting, one = ask(actor, checkpoint), make_export(checkpoint)
    assert api.get(f"/exports/{waiting.pk}/download").status_code == 409
    Export.objects.filter(pk=one.pk).update(files=[{**one.files[0], "sha256": "0" * 64}])
    with pytest.raises(DamagedFile):
        api.get(f"/exports/{one.pk}/download").getvalue()
    artifacts.delete(one.key)
    assert api.get(f"/exports/{one.pk}/download").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_exports_go_when_deleted_and_with_their_checkpoint(
    api: ApiClient, actor: Actor, checkpoint: Checkpoint
) -> None:
    one, other = make_export(checkpoint), make_export(checkpoint, "merged")
    assert api.delete(f"/exports/{one.pk}").status_code == 204
    assert not artifacts.exists(one.key)
    assert artifacts.exists(other.key)
    checkpoint_delete(actor=actor, checkpoint=checkpoint)
    assert not artifacts.exists(exports_key(checkpoint.pk))
    assert not Export.objects.exists()


# --- the page ---------------------------------------------------------------------------------------------------------
def test_the_page_offers_makes_and_refreshes(pages: Client, checkpoint: Checkpoint) -> None:
    path = f"/models/checkpoints/{checkpoint.pk}"
    shown = pages.get(path).content.decode()
    assert "Adapter alone" in shown
    assert all(one.label in shown for one in ExportFormat)
    assert "every 2s" not in shown
    answer = pages.post(f"{path}/exports", {"format": FIRST})
    assert answer.headers["Location"] == f"{path}#exports"
    fragment = pages.get(f"{path}/exports").content.decode()
    assert "<html" not in fragment
    assert "every 2s" in fragment
    assert "Cancel" in fragment
    refused = pages.post(f"{path}/exports", {"format": "x"})
    assert refused.status_code == 422
    assert "must be one of" in refused.content.decode()


def test_the_page_of_five_exports_asks_no_more_of_the_database(
    pages: Client, checkpoint: Checkpoint, django_assert_num_queries: Any
) -> None:
    path = f"/models/checkpoints/{checkpoint.pk}/exports"
    make_export(checkpoint)
    pages.get(path)  # the first of a session notes that it was seen
    with django_assert_num_queries(6):
        pages.get(path)
    for format_ in ("merged", "gguf-q8_0", "gguf-q4_1", "gguf-q4_0"):
        make_export(checkpoint, format_)
    with django_assert_num_queries(6):
        pages.get(path)


# --- the check --------------------------------------------------------------------------------------------------------
def split(at: str) -> dict[str, str]:
    return {"before": "It is ", "at": at, "after": " now."}


REPORT = {
    "ends": ["<|im_end|>"],
    "forms": [
        {
            "format": "gguf-f16",
            "verdict": "differs",
            "differences": ["A prompt becomes other tokens."],
            "tolerance": 1e-4,
            "ends": ["</s>"],
            "template_same": True,
            "kl": None,
            "logit": None,
            "same_answers": 0,
            "prompts": [
                {
                    "prompt": "How late?",
                    "text": "How late?",
                    "rendered": None,
                    "tokens": {"place": 3, "trained": split("twelve"), "export": split("<b>")},
                    "answer": None,
                    "logit": None,
                    "kl": None,
                }
            ],
        }
    ],
}


def test_a_check_is_asked_for_replaced_and_cancelled(api: ApiClient, actor: Actor, checkpoint: Checkpoint) -> None:
    path = f"/checkpoints/{checkpoint.pk}/parity"
    assert api.get(path).status_code == 404
    assert api.post(path, {}).status_code == 409  # there is no export
    make_export(checkpoint)
    first = api.post(path, {"prompts": ["Why?", " "]}).json()
    assert first["prompts"][-1] == "Why?"
    assert api.post(path, {}).status_code == 409  # one is under way
    ParityCheck.objects.update(status=WorkStatus.DONE)
    second = api.post(path, {}).json()
    assert api.get(path).json()["id"] == second["id"] != first["id"]
    assert api.delete(path).status_code == 204
    assert not ParityCheck.objects.exists()
    for prompts in (["x"] * 9, ["x" * 2001], ["a\0b"]):
        assert list(api.post(path, {"prompts": prompts}).json()["error"]["fields"]) == ["prompts"]


def test_the_page_marks_where_an_export_parts_and_only_the_team_sees_it(
    pages: Client, signed_in: Any, outsider: User, actor: Actor, checkpoint: Checkpoint
) -> None:
    make_export(checkpoint, prompts=["How late?"])
    ParityCheck.objects.update(report=REPORT)
    share_create(actor=actor, checkpoint=checkpoint, team="blue")
    path = f"/models/checkpoints/{checkpoint.pk}"
    shown = pages.get(path).content.decode()
    assert "Prompt, from token 4" in shown
    assert "It is <mark>twelve</mark> now." in shown
    assert "<mark>&lt;b&gt;</mark>" in shown
    assert "A prompt becomes other tokens." in shown
    assert "How late?" not in signed_in(outsider).get(path).content.decode()


# --- what a worker refuses before any model is loaded -----------------------------------------------------------------
@pytest.fixture
def base(team: Team, tmp_path: Path, settings: Any) -> BaseModel:
    """A model whose files have the right names."""
    settings.MODEL_ROOTS = [tmp_path]
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    save_file({"w": np.zeros(4, dtype=np.float32)}, folder / "model.safetensors")
    values = {"team": team, "source": ModelSource.PATH, "path": str(folder), "parameters": 4}
    return BaseModel.objects.create(name="named", **values)


@pytest.fixture
def adapter(team: Team, base: BaseModel, tmp_path: Path) -> Checkpoint:
    return adapter_of(team, base, tmp_path, peft_type="LORA", task_type="CAUSAL_LM")


def adapter_of(team: Team, base: BaseModel, tmp_path: Path, **config: str) -> Checkpoint:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({"w": np.zeros(4, dtype=np.float32)}, folder / "adapter_model.safetensors")
    return checkpoint_of(team, folder, "adapter", base)


def failure(export: Export) -> str:
    exports.work()
    export.refresh_from_db()
    assert export.status == WorkStatus.FAILED
    assert export.error is not None
    assert export.error["advice"]
    return str(export.error["code"])


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM"}, "export.soft_prompt"),
        ({"peft_type": "PREFIX_TUNING", "task_type": "CAUSAL_LM"}, "export.soft_prompt"),
        ({"peft_type": "LORA", "task_type": "SEQ_CLS"}, "model.reward"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused(
    actor: Actor, team: Team, base: BaseModel, tmp_path: Path, config: dict[str, str], code: str
) -> None:
    assert failure(ask(actor, adapter_of(team, base, tmp_path, **config))) == code


def test_a_checkpoint_that_is_not_whole_is_refused(actor: Actor, adapter: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"{}")
    artifacts.put(tmp_path / "x", f"{adapter.key}/adapter_config.json")
    assert failure(ask(actor, adapter)) == "model.damaged"


def test_a_base_that_is_gone_is_told(actor: Actor, adapter: Checkpoint, base: BaseModel) -> None:
    BaseModel.objects.filter(pk=base.pk).update(path=f"{base.path}-gone")
    assert failure(ask(actor, adapter)) == "model.missing"


def test_a_disk_that_filled_up_meanwhile_is_told(
    actor: Actor, adapter: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ask(actor, adapter)
    monkeypatch.setattr(shutil, "disk_usage", full)
    assert failure(export) == "resource.disk"


@pytest.mark.django_db(transaction=True)
def test_a_checkpoint_deleted_meanwhile_ends_its_export(
    actor: Actor, adapter: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ask(actor, adapter)
    renew = exports.work_progress

    def delete(**values: Any) -> bool:
        checkpoint_delete(actor=actor, checkpoint=adapter)
        return renew(**values)

    monkeypatch.setattr(exports, "work_progress", delete)
    exports.work()
    assert not Export.objects.exists()
    assert not artifacts.exists(export.key)
    assert not services.exports_wait()


def test_an_export_whose_file_is_gone_is_not_checked(actor: Actor, adapter: Checkpoint) -> None:
    one = make_export(adapter)
    artifacts.delete(one.key)
    check = services.parity_create(actor=actor, checkpoint=adapter)
    exports.work()
    check.refresh_from_db()
    assert check.error is not None
    assert check.error["code"] == "export.missing"


def test_a_claim_lost_twice_is_given_up(actor: Actor, checkpoint: Checkpoint) -> None:
    export = ask(actor, checkpoint)
    for _ in range(2):
        claimed = services.work_claim()
        assert claimed is not None
        Export.objects.update(lease_until="2020-01-01T00:00Z")
    assert services.work_claim() is None
    assert not services.work_progress(work=claimed, progress={})
    export.refresh_from_db()
    assert export.error is not None
    assert export.error["code"] == "export.lost"
