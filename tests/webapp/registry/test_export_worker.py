"""Exports and their check by a worker, with real models in real child processes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.exports import build_elsewhere, checkpoint_of
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.claimed import WorkStatus
from webapp.registry import exports as services
from webapp.registry.models import BaseModel, Checkpoint, ModelSource, ParityCheck
from workers import exports

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_elsewhere(f"build_pair(Path({str(folder)!r}))")
    return folder


@pytest.fixture
def base(team: Team, models: Path, settings: Any) -> BaseModel:
    settings.MODEL_ROOTS = [models]
    return BaseModel.objects.create(
        team=team, name="base", source=ModelSource.PATH, path=str(models / "base"), parameters=3_200_000
    )


@pytest.fixture
def adapter(team: Team, models: Path, base: BaseModel) -> Checkpoint:
    return checkpoint_of(team, models / "adapter", "adapter", base)


def test_an_adapter_is_exported_and_its_exports_are_what_was_trained(actor: Actor, adapter: Checkpoint) -> None:
    for format_ in ("merged", "gguf-f16", "gguf-q4_0"):
        services.export_create(actor=actor, checkpoint=adapter, format=format_)
    exports.work()
    made = {export.format: export for export in services.exports_of(adapter)}
    assert {export.status for export in made.values()} == {WorkStatus.DONE}, [one.error for one in made.values()]
    for export in made.values():
        for file in export.files:
            key = f"{export.key}/{file['path']}"
            assert (artifacts.size(key), artifacts.digest(key)) == (file["size"], file["sha256"])

    services.parity_create(actor=actor, checkpoint=adapter, prompts=["Say 1234 in words, süß."])
    exports.work()
    check = ParityCheck.objects.get()
    assert check.status == WorkStatus.DONE, check.error
    assert check.report is not None
    forms = {form["format"]: form for form in check.report["forms"]}
    assert {name: (form["verdict"], form["differences"]) for name, form in forms.items()} == {
        "merged": ("same", []),
        "gguf-f16": ("tolerance", []),
        "gguf-q4_0": ("tolerance", []),
    }
    assert forms["merged"]["logit"] < 1e-5
    assert forms["gguf-f16"]["kl"] < 1e-4
    assert len(forms["merged"]["prompts"]) == 4
    print(json.dumps({k: (v["kl"], v["logit"], v["same_answers"]) for k, v in forms.items()}))
