"""The command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from polm_core.__main__ import main
from polm_core.catalogue import EVALUATIONS, METHODS
from polm_core.method import Method
from polm_core.run import execute
from polm_core.run_dir import RunDir
from tests.polm_core.conftest import MakeRun, points
from tests.support import tiny


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--slugs"]) == 0
    assert capsys.readouterr().out.split() == [method.slug for method in (*METHODS, *EVALUATIONS)]
    assert main(["methods"]) == 0
    assert METHODS[0].summary in capsys.readouterr().out


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.slug)
def test_a_method_is_explained_with_every_setting(method: Method, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", method.slug]) == 0
    printed = capsys.readouterr().out
    assert method.summary in printed
    assert method.paper.url in printed
    for name, value in method.default_config().items():
        assert f"\n  {name}." in printed if isinstance(value, dict) else f"\n  {name}: " in printed
    assert "Start of every random choice" in printed


def test_an_unknown_method_is_not_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "dop"]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_a_file_is_checked_for_a_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tiny.write_rows(tmp_path / "pairs.jsonl", tiny.preferences(20))
    assert main(["check", str(data), "--method", "dpo"]) == 0
    assert "preference" in capsys.readouterr().out
    assert main(["check", str(data), "--method", "continued-pretraining"]) == 2
    assert main(["check", str(data), "--method", "dop"]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_what_is_wrong_is_printed_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "none.yaml")]) == 2
    printed = capsys.readouterr().err
    assert "cannot be read" in printed
    assert "Traceback" not in printed


def test_settings_are_checked_before_anything_is_made(make_run: MakeRun, tmp_path: Path) -> None:
    run_dir = make_run("sft", batch_size=0)
    assert main(["run", str(run_dir.config), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_run_is_not_overwritten(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = make_run("sft")
    before = run_dir.config.read_text()
    assert main(["run", str(run_dir.config), "--out", str(run_dir.root)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert run_dir.config.read_text() == before
    assert main(["run", str(run_dir.config), "--out", str(run_dir.root), "--resume"]) == 2
    assert "no complete checkpoint" in capsys.readouterr().err


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_a_run_trains_and_leaves_all_that_repeats_it(make_run: MakeRun, tmp_path: Path) -> None:
    config, out = make_run("sft", save_steps=2).config, tmp_path / "out"
    command = [sys.executable, "-m", "polm_core", "run", str(config), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run_dir = RunDir(out)
    assert "step 4 of 4" in done.stdout
    assert "step 4 of 4" in run_dir.log.read_text()

    repeated = RunDir(tmp_path / "repeated")
    repeated.create()
    repeated.config.write_text(run_dir.config.read_text())
    assert execute(repeated.root) == 0
    assert points(repeated, "loss") == points(run_dir, "loss")
    assert json.loads(repeated.result.read_text())["outcome"] == "succeeded"
