"""Process reward models: which tokens are judged, what is measured, and what such a model is not taken for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from polm_core.context import ModelSpec, load_spec
from polm_core.errors import ModelError
from polm_core.formats import Format
from polm_core.methods.reasoning.prm import step_metrics
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import RunDir
from polm_core.training.encoding import encode_steps
from polm_core.training.loading import load_writer
from tests.polm_core.conftest import MakeRun, samples
from tests.support import tiny


@pytest.mark.parametrize("wrap", [True, False])
def test_the_last_token_of_each_step_is_judged(tokenizer: Any, wrap: bool) -> None:
    (row,) = tiny.steps(1)
    ((encoded,),) = encode_steps(tokenizer, [row], wrap=wrap)
    ends = [encoded.offsets[place] for place, judged in enumerate(encoded.trained) if judged]
    before = encoded.text.index(row["completions"][0])
    assert [encoded.text[:end][before:] for _, end in ends] == [
        f"{row['completions'][0]}\n",
        f"{row['completions'][0]}\n{row['completions'][1]}\n",
    ]
    assert ("assistant" in encoded.text[:before]) == wrap
    assert len(encoded.input_ids) == len(encoded.offsets) == len(encoded.trained)


def test_steps_have_the_same_tokens_whatever_follows(tokenizer: Any) -> None:
    (row,) = tiny.steps(1)
    first = {**row, "completions": row["completions"][:1], "labels": [True]}
    (whole,), (part,) = encode_steps(tokenizer, [row, first], wrap=True)
    assert whole.input_ids[: len(part.input_ids)] == part.input_ids


def _evaluated(labels: list[list[int]], said: list[list[int]]) -> Any:
    predictions = np.array([[[1 - one, one] for one in row] for row in said], dtype=float)
    return SimpleNamespace(label_ids=np.array(labels), predictions=predictions)


@pytest.mark.parametrize(
    ("labels", "said", "expected"),
    [
        # Three of four steps are right; all are called right: that is the majority's doing.
        ([[-100, 1, 1], [1, 0, -100]], [[0, 1, 1], [1, 1, 0]], (0.75, 0.0, 0.0)),
        ([[-100, 1, 1], [1, 0, -100]], [[0, 1, 1], [1, 0, 1]], (1.0, 0.25, 1.0)),
        # One wrong step of two is found, and one right step is suspected.
        ([[0, 0, 1, 1]], [[0, 1, 0, 1]], (0.5, 0.0, 0.5)),
        ([[1, 1]], [[1, 1]], (1.0, 0.0, 1.0)),
    ],
)
def test_what_is_measured(labels: list[list[int]], said: list[list[int]], expected: tuple[float, ...]) -> None:
    found = step_metrics(_evaluated(labels, said))
    assert (found["accuracy"], found["above_majority"], found["wrong_f1"]) == expected


def test_steps_beyond_the_limit_are_cut_and_rows_without_any_are_counted(make_run: MakeRun) -> None:
    rows = tiny.steps(20)
    rows[0]["completions"][0] = "so " * 100
    rows[1]["completions"][1] = "so " * 100
    settings: dict[str, Any] = {"rows": rows, "format": Format.STEPWISE, "max_length": 60, "spec": {"held_out": 0}}
    report = preflight(load_spec(make_run("prm", **settings).config))
    assert (report.rows_used, report.untrained_rows, report.truncated_rows) == (19, 1, 2)
    assert report.blocking == []
    assert report.first_example is not None
    nothing = preflight(load_spec(make_run("prm", name="none", **{**settings, "max_length": 8}).config))
    assert [entry.code for entry in nothing.blocking] == ["data.untrained"]


@pytest.fixture
def judge(make_run: MakeRun) -> RunDir:
    run_dir = make_run("prm", format=Format.STEPWISE, max_steps=1, eval_steps=0)
    assert execute(run_dir.root) == 0
    return run_dir


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_it_judges_and_is_taken_for_nothing_else(make_run: MakeRun, judge: RunDir) -> None:
    shown = [sample for sample in samples(judge) if sample["step"] == 1]
    assert all(0 < sample["reward"] < 1 for sample in shown)
    assert shown[0]["completion"].count("\n") == 1
    assert {line.split()[0] for sample in shown for line in sample["reference"].splitlines()} == {"right", "wrong"}

    folder = judge.last_checkpoint()
    assert folder is not None
    spec = ModelSpec(path=folder, name="judge")
    with pytest.raises(ModelError, match="judges steps and writes none"):
        load_writer(spec)
    start = {"model": {"path": str(folder), "name": "judge"}}
    (entry,) = preflight(load_spec(make_run("sft", name="writes", spec=start).config)).blocking
    assert entry.code == "model.reward"
    assert execute(make_run("prm", name="more", format=Format.STEPWISE, max_steps=1, spec=start).root) == 0


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_it_starts_from_a_language_models_adapter(make_run: MakeRun, tiny_model: Path) -> None:
    tuned = make_run("lora", name="tuned", max_steps=1)
    assert execute(tuned.root) == 0
    model = {"path": str(tiny_model), "name": "tiny", "adapter": str(tuned.last_checkpoint())}
    run_dir = make_run("prm", format=Format.STEPWISE, max_steps=1, adapter={"type": "lora"}, spec={"model": model})
    assert execute(run_dir.root) == 0
    folder = run_dir.last_checkpoint()
    assert folder is not None
    again = {"model": {"path": str(tiny_model), "name": "tiny", "adapter": str(folder)}}
    more = make_run("prm", name="more", format=Format.STEPWISE, max_steps=1, adapter={"type": "lora"}, spec=again)
    assert execute(more.root) == 0
