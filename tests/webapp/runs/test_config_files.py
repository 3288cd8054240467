"""A run as a file: read back by the command line once what it names is beside it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from polm_core import catalogue
from polm_core.context import load_spec
from tests.support.checkpoints import make_base_model, make_checkpoint
from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.registry.models import BaseModel, ModelSource
from webapp.registry.services import checkpoint_register, model_ensure_starter
from webapp.runs.config_files import config_yaml, model_entry

pytestmark = pytest.mark.django_db


def test_settings_stand_in_the_order_of_the_method(team: Team) -> None:
    config = catalogue.get("dpo").default_config()
    run = make_run(team, method="dpo", config={**config, "adapter": {**config["adapter"], "type": "lora"}, "new": 1})
    run.refresh_from_db()
    assert list(run.config) != [*config, "new"]
    written = yaml.safe_load(config_yaml(run))["config"]
    assert written == run.config
    assert list(written) == [*config, "new"]
    assert list(written["adapter"]) == list(config["adapter"])
    gone = make_run(team, method="gone", config={"b": 1, "a": {"c": 2}})
    assert yaml.safe_load(config_yaml(gone))["config"] == {"b": 1, "a": {"c": 2}}


def test_the_file_says_where_to_get_what_it_names(team: Team) -> None:
    starter = model_ensure_starter()
    run = make_run(team, model=starter)
    text = config_yaml(run)
    assert "# ./starter: python -m polm_core starter ./starter\n" in text
    assert f"# ./rows-v1.jsonl: GET /api/v1/datasets/{run.dataset_version.dataset_id}/rows.jsonl?version=1\n" in text
    written = yaml.safe_load(text)
    assert written["model"] == {"path": "./starter"}
    assert written["dataset"]["path"] == "./rows-v1.jsonl"


def test_an_adapter_comes_with_the_model_under_it(team: Team, actor: Any) -> None:
    adapter = make_checkpoint(team, "first @ 20", base_model=make_base_model(team, "small"))
    assert model_entry(adapter) == {"path": "./small", "adapter": "./first-20"}
    registered = checkpoint_register(actor=actor, checkpoint=adapter, team=team, name="mine")
    run = make_run(team, model=registered)
    text = config_yaml(run)
    assert yaml.safe_load(text)["model"] == {"path": "./small", "adapter": "./first-20"}
    assert "# ./small: the folder /nowhere/small of the workers\n" in text
    assert f"# ./first-20: GET /api/v1/checkpoints/{adapter.pk}/download, unpacked\n" in text
    whole = make_checkpoint(team, "whole @ 20", kind="model")
    assert model_entry(whole) == {"path": "./whole-20"}


def test_a_model_of_the_hub_is_named_with_its_revision(team: Team) -> None:
    model = BaseModel(team=team, name="org/model", source=ModelSource.HUB, hub_id="org/model", revision="abc")
    assert model_entry(model) == {"hub_id": "org/model", "revision": "abc"}


def test_the_command_line_reads_it(team: Team, tmp_path: Path) -> None:
    run = make_run(team, config=catalogue.get("sft").default_config())
    run.dataset_version.format = "conversation"
    path = tmp_path / "config.yaml"
    path.write_text(config_yaml(run))
    spec = load_spec(path)
    assert spec.method == "sft"
    assert spec.dataset.path.name == "rows-v1.jsonl"
    assert catalogue.get(spec.method).parse(spec.config).model_dump(mode="json") == run.config
