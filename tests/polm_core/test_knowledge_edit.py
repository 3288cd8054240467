"""Knowledge editing: what an edit does to the weights, stopping between edits, and what cannot be edited."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from polm_core.blocks import TrainConfig
from polm_core.context import ModelSpec, RunContext, load_spec
from polm_core.formats import Format
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import Outcome, RunDir, Wish
from polm_core.training.editing import Memory, Search, probe, read_probes
from polm_core.training.loading import load_model, load_tokenizer
from tests.polm_core.conftest import MakeRun, points, samples
from tests.support import tiny

pytestmark = pytest.mark.filterwarnings("default")
SMALL: dict[str, Any] = {"stats_tokens": 64, "max_edits": 2, "edit_steps": 10}


@pytest.fixture
def edit(make_run: MakeRun) -> Any:
    def make(rows: list[dict[str, Any]] | None = None, **more: Any) -> RunDir:
        return make_run("knowledge-edit", format=Format.EDIT, rows=rows or tiny.edits(4), **SMALL | more)

    return make


def outcome(run_dir: RunDir) -> tuple[Outcome, dict[str, Any]]:
    result = run_dir.read_result()
    assert result is not None
    return result.outcome, result.error or {}


def test_a_change_moves_the_subject_s_value_by_what_was_found(edit: Any, tiny_model: Path) -> None:
    """What is written to the weights adds at the subject what the search added, and the target becomes likelier."""
    import torch

    run_dir = edit()
    spec = ModelSpec(path=tiny_model)
    tokenizer, model = load_tokenizer(spec), load_model(spec, TrainConfig()).eval()
    row = tiny.edits(1)[0]
    wanted = probe(tokenizer, row["prompt"], row["target"])
    with RunContext(run_dir, load_spec(run_dir.config)) as context:
        memory = Memory(model, tokenizer, 0, context)
        memory.learn_keys(64, 8, seed=1)
        before = read_probes(model, [wanted], 8)[0]
        values: list[Any] = []
        memory.projection.register_forward_hook(lambda _, __, output: values.append(output[0].detach().clone()))
        asked = torch.tensor([wanted.ids])
        model(input_ids=asked)
        change = memory.find(row, Search(10, 0.5, 0.0625, 4.0, 0))
        memory.write(change)
        values.clear()
        keys = memory._keys(wanted.ids)
    end = row["prompt"].index(row["subject"]) + len(row["subject"])
    offsets = tokenizer(row["prompt"], return_offsets_mapping=True)["offset_mapping"]
    subject = max(place for place, (start, _) in enumerate(offsets) if start < end)
    added = torch.outer(torch.tensor(change.column), torch.tensor(change.row)) @ keys[subject]
    assert (added - torch.tensor(change.column)).abs().max() < 1e-4
    assert read_probes(model, [wanted], 8)[0].probability > before.probability


def test_a_run_that_is_stopped_between_edits_goes_on_as_if_it_had_not_been(edit: Any, tmp_path: Path) -> None:
    whole = edit()
    assert execute(whole.root) == 0
    head, first, *_ = whole.made.read_text().splitlines(keepends=True)

    stopped = edit(name="stopped")
    stopped.made.write_text(head + first)
    stopped.ask(Wish.STOP)
    resumed = edit(name="resumed")
    resumed.made.write_text(head + first)
    assert execute(resumed.root) == 0
    assert (whole.last_checkpoint() / "model.safetensors").read_bytes() == (  # type: ignore[operator]
        resumed.last_checkpoint() / "model.safetensors"  # type: ignore[operator]
    ).read_bytes()
    assert sorted(points(resumed, "efficacy")) == [2]
    assert points(resumed, "perplexity")[2] == points(whole, "perplexity")[2]
    assert sorted(points(whole, "neighbourhood")) == [0, 1, 2]
    assert {sample["step"] for sample in samples(whole)} == {0, 2}
    assert "54." in {sample["reference"] for sample in samples(whole)}


def test_a_stop_after_an_edit_keeps_it(edit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = edit()
    find = Memory.find

    def find_and_stop(*given: Any) -> Any:
        run_dir.ask(Wish.STOP)
        return find(*given)

    monkeypatch.setattr(Memory, "find", find_and_stop)
    assert execute(run_dir.root) == 0
    assert outcome(run_dir)[0] is Outcome.STOPPED
    ((folder, manifest),) = run_dir.complete_checkpoints()
    assert manifest.step == 1
    assert len((folder / "made.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"subject": "nobody"}, "edit.subject"),
        ({"target": "  "}, "target.empty"),
        ({"neighbours": ["no answer"]}, "edit.neighbour"),
    ],
)
def test_rows_that_are_no_edit_are_named(edit: Any, change: dict[str, Any], code: str) -> None:
    first, second, *_ = tiny.edits(3)
    run_dir = edit([first, second | change])
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert entry.code == code
    assert entry.message.startswith("Row 2: ")
    assert execute(run_dir.root) == 2
    assert outcome(run_dir)[1]["code"] == code


def test_targets_that_the_model_says_already_are_counted_and_left_out(
    edit: Any, tiny_model: Path, tokenizer: Any
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    first, second = tiny.edits(2)
    asked = tokenizer(first["prompt"], return_tensors="pt")["input_ids"]
    said = tokenizer.decode([int(model(asked).logits[0, -1].argmax())])
    known = first | {"target": said}
    # A model that is as small repeats the last word.
    assert said == " is"
    run_dir = edit([known, second])
    assert execute(run_dir.root) == 0
    result = run_dir.read_result()
    assert result is not None
    assert result.metrics["known"] == 1
    assert sorted(points(run_dir, "efficacy")) == [0, 1]
    alone = edit([known], name="alone")
    assert execute(alone.root) == 2
    assert outcome(alone)[1]["code"] == "data.known"


def test_a_layer_that_is_not_there_is_refused(edit: Any) -> None:
    run_dir = edit(layer=9)
    assert execute(run_dir.root) == 2
    assert outcome(run_dir)[1]["fields"] == {
        "config.layer": ["must be below 2, the number of the model's layers, or auto"]
    }


def test_the_preflight_tells_what_is_left_out_and_shows_the_first_row(edit: Any) -> None:
    rows = tiny.edits(3)
    report = preflight(load_spec(edit([*rows, rows[0]]).config))
    assert (report.rows_total, report.rows_used, report.held_out_rows, report.steps) == (4, 2, 0, 2)
    assert {entry.code for entry in report.warnings} == {"data.many_edits", "data.duplicates", "config.few_tokens"}
    assert report.first_example is not None
    assert "".join(token.text for token in report.first_example.tokens if token.trained) == rows[0]["target"]
    assert report.seconds > 0


def test_edits_without_paraphrases_and_neighbours_are_measured_alone(edit: Any) -> None:
    bare = [{name: row[name] for name in ("prompt", "subject", "target")} for row in tiny.edits(1)]
    run_dir = edit(bare)
    assert execute(run_dir.root) == 0
    keys = {key for line in run_dir.metrics.read_text().splitlines() for key in json.loads(line)["values"]}
    assert keys == {"efficacy", "probability"}
    assert all(math.isfinite(value) for value in points(run_dir, "probability").values())
