"""The proofs: every method has one, and the table says what was measured and no more."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from polm_core.catalogue import METHODS, get
from polm_core.formats import Format
from polm_core.run import execute
from tests.polm_core.conftest import MakeRun
from tests.proof.__main__ import definition, drop_weights, series
from tests.proof.data import prepare_rows
from tests.proof.merging import before_and_after
from tests.proof.rows import ROWS, SEEDS, ProofRow
from tests.proof.table import merged_entries, read_entries, write_table

ENTRY: dict[str, Any] = {
    "name": "dpo", "figure": 0.5, "unit": "reward margin", "bar": "at least 0.2 more", "ok": True,
    "metric": "eval/rewards/margins", "before": 0.0, "after": 0.5, "seeds": [1, 2], "rows": 240,
    "held_out_rows": 60, "steps": 40, "seconds": 80.0, "model": "m", "definition": "x",
}  # fmt: skip


def test_every_method_has_a_proof_and_at_least_two_seeds() -> None:
    assert [row.slug for row in ROWS if row.slug not in {method.slug for method in METHODS}] == []
    assert {method.slug for method in METHODS} == {row.slug for row in ROWS}
    assert len(ROWS) == len({row.slug for row in ROWS})
    assert len(set(SEEDS)) >= 2


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_a_proof_s_settings_are_the_method_s(row: Any) -> None:
    get(row.slug).parse(row.config)
    assert [row.at_most, row.gain, row.at_least].count(None) == 2
    assert definition(row) == definition(row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_a_bar_is_not_met_by_standing_still(row: Any) -> None:
    assert not row.is_met(1.0, 1.0)
    assert not row.is_met(1.0, math.nan)
    assert row.is_met(1.0, 0.1) if row.at_most is not None else row.is_met(0.1, 1.0)


def test_a_bar_is_not_met_at_any_cost() -> None:
    row = ProofRow("quantize", "size/ratio", "share", at_most=0.6, within={"eval/perplexity": 1.1})
    assert row.bar == "at most 0.6 x before, eval/perplexity at most 1.1 x"
    assert row.is_kept({"eval/perplexity": [10.0, 10.9]})
    assert not row.is_kept({"eval/perplexity": [10.0, 11.1]})
    assert not row.is_kept({"eval/perplexity": [10.0, math.nan]})


@pytest.mark.parametrize(
    "format",
    [
        Format.CONVERSATION,
        Format.PREFERENCE,
        Format.RATING,
        Format.TEXT,
        Format.PROMPT,
        Format.PROMPT_ANSWER,
        Format.STEPWISE,
        Format.IMAGE_CONVERSATION,
    ],
)
def test_each_kind_of_method_has_rows_to_start_from(tmp_path: Path, format: Format) -> None:
    path, _ = prepare_rows(format, tmp_path)
    assert len(path.read_text().splitlines()) >= (94 if format is Format.PROMPT else 300)


def test_a_merge_is_held_against_the_better_of_its_parents() -> None:
    assert before_and_after([[1.0, 3.0], [2.0, 1.0], [1.0, 1.5]]) == (1.5, 1.25)


def test_the_table_keeps_one_row_a_method_in_the_catalogue_s_order(tmp_path: Path) -> None:
    order = ["sft", "dpo"]
    entries = merged_entries([ENTRY, {**ENTRY, "name": "gone"}], {**ENTRY, "name": "sft", "ok": False}, order)
    entries = merged_entries(entries, {**ENTRY, "after": 0.75}, order)
    write_table(entries, tmp_path)
    assert [entry["name"] for entry in read_entries(tmp_path / "proof.json")] == order
    lines = (tmp_path / "proof.md").read_text().splitlines()
    assert "**not met**" in lines[-2]
    assert "| 0 | 0.75 |" in lines[-1]


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_before_and_after_are_read_from_the_run(make_run: MakeRun) -> None:
    run_dir = make_run("sft", eval_steps=0)
    assert execute(run_dir.root) == 0
    first, last = series(run_dir, "eval/loss")
    logged = [json.loads(line)["values"] for line in run_dir.metrics.read_text().splitlines()]
    assert [values["eval/loss"] for values in logged if "eval/loss" in values] == [first, last]
    drop_weights(run_dir)
    assert not list(run_dir.checkpoints.rglob("*.safetensors"))
