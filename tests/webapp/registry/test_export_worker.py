"""Exports and their check by a worker, with real models in real child processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support import factories
from tests.support.exports import build_pair_elsewhere, checkpoint_of
from tests.support.runs import make_run
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.claimed import WorkStatus
from webapp.registry import exports as services
from webapp.registry.models import BaseModel, Checkpoint, Export, ModelSource, ParityCheck
from webapp.runs.models import RunCheckpoint
from workers import exports

pytestmark = pytest.mark.train

LAYER = "model.layers.1.self_attn.q_proj"
# peft's own scale: alpha 8 over rank 4.
SCALE = 2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_pair_elsewhere(folder)
    return folder


@pytest.fixture
def base(team: Team, models: Path, settings: Any) -> BaseModel:
    settings.MODEL_ROOTS = [models]
    return BaseModel.objects.create(
        team=team, name="base", source=ModelSource.PATH, path=str(models / "base"), parameters=3_200_000
    )


@pytest.fixture
def adapter(team: Team, models: Path, base: BaseModel, actor: Actor) -> Checkpoint:
    """The checkpoint of a run that had a dataset of eight conversations."""
    checkpoint = checkpoint_of(team, models / "adapter", "adapter", base)
    run = make_run(team, model=base, dataset_version=factories.make_version(actor))
    RunCheckpoint.objects.create(run=run, checkpoint=checkpoint, step=1)
    return checkpoint


def test_an_adapter_is_exported_and_its_exports_are_what_was_trained(
    actor: Actor, adapter: Checkpoint, models: Path
) -> None:
    for format_ in ("merged", "gguf-f16"):
        services.export_create(actor=actor, checkpoint=adapter, format=format_)
    exports.work()
    made = {export.format: export for export in services.exports_of(adapter)}
    assert {export.status for export in made.values()} == {WorkStatus.DONE}, [one.error for one in made.values()]
    for export in made.values():
        for file in export.files:
            key = f"{export.key}/{file['path']}"
            assert (artifacts.size(key), artifacts.digest(key)) == (file["size"], file["sha256"])
    _is_merged(made["merged"], models)

    services.parity_create(actor=actor, checkpoint=adapter, prompts=["Say 1234 in words, süß."])
    exports.work()
    check = ParityCheck.objects.get()
    assert check.status == WorkStatus.DONE, check.error
    assert check.report is not None
    forms = {form["format"]: form for form in check.report["forms"]}
    assert {name: (form["verdict"], form["differences"]) for name, form in forms.items()} == {
        "merged": ("same", []),
        "gguf-f16": ("tolerance", []),
    }
    assert forms["merged"]["logit"] < 1e-5
    assert 0 < forms["gguf-f16"]["logit"] < 1e-2
    assert forms["gguf-f16"]["kl"] < 1e-4
    # Three that are always asked, one's own, and two of the dataset.
    asked = [prompt["prompt"] for prompt in forms["merged"]["prompts"]]
    assert asked[3:] == ["Say 1234 in words, süß.", "0 + 1 =", "1 + 1 ="]


def _is_merged(export: Export, models: Path) -> None:
    """A layer of it is the base's with the adapter's two matrices multiplied and added."""
    merged = load_file(artifacts.local_folder(export.key) / "model.safetensors")[f"{LAYER}.weight"]
    before = load_file(models / "base" / "model.safetensors")[f"{LAYER}.weight"]
    lora = load_file(models / "adapter" / "adapter_model.safetensors")
    down, up = (lora[f"base_model.model.{LAYER}.lora_{side}.weight"] for side in "AB")
    assert np.abs(up @ down).max() > 1e-2
    np.testing.assert_allclose(merged, before + SCALE * up @ down, atol=1e-6)
