"""Reading canonical rows and holding some out."""

import json
from pathlib import Path
from typing import Any

import pytest

from polm_core.context import DatasetSpec, RunSpec
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.training.rows import fingerprint, load_split, split_rows
from tests.support import tiny


def run_spec(folder: Path, rows: list[Any], format: Format = Format.CONVERSATION, **more: Any) -> RunSpec:
    dataset = DatasetSpec(path=tiny.write_rows(folder / "rows.jsonl", rows), format=format)
    return RunSpec.model_validate({"method": "sft", "model": {"path": "m"}, "dataset": dataset, **more})


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"text": str(index)} for index in range(count)]


def test_a_split_takes_its_share_and_loses_nothing() -> None:
    rows = numbered(100)
    train, held_out = split_rows(rows, 10, seed=1)
    assert (len(train), len(held_out)) == (90, 10)
    assert sorted(map(fingerprint, train + held_out)) == sorted(map(fingerprint, rows))


def test_a_split_depends_on_the_seed_alone() -> None:
    rows = numbered(100)
    assert split_rows(rows, 10, seed=1) == split_rows(rows, 10, seed=1)
    assert split_rows(rows, 10, seed=1) != split_rows(rows, 10, seed=2)


def test_equal_rows_stay_on_one_side() -> None:
    rows = numbered(20) * 3
    train, held_out = split_rows(rows, 10, seed=0)
    assert held_out
    assert not {row["text"] for row in train} & {row["text"] for row in held_out}


def test_something_is_always_left_to_train_on() -> None:
    assert split_rows(numbered(1), 5, seed=0) == (numbered(1), [])
    train, held_out = split_rows(numbered(2), 5, seed=0)
    assert (len(train), len(held_out)) == (1, 1)


def test_answers_to_one_prompt_stay_on_one_side(tmp_path: Path) -> None:
    rows = tiny.ratings(40)
    split = load_split(run_spec(tmp_path, rows, Format.RATING), [Format.RATING], eval_rows=10, seed=0)
    prompts = [{str(row["prompt"]) for row in side} for side in (split.train, split.held_out)]
    assert prompts[1]
    assert not prompts[0] & prompts[1]
    alike = [{**row, "prompt": "the same"} for row in rows]
    assert load_split(run_spec(tmp_path, alike, Format.RATING), [Format.RATING], eval_rows=10, seed=0).held_out


def test_the_order_of_keys_does_not_make_rows_differ() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_at_most_the_asked_number_is_held_out(tmp_path: Path) -> None:
    spec = run_spec(tmp_path, tiny.conversations(60), held_out=0.5)
    assert len(load_split(spec, [Format.CONVERSATION], eval_rows=7, seed=0).held_out) == 7


def test_nothing_is_held_out_when_that_is_asked(tmp_path: Path) -> None:
    split = load_split(
        run_spec(tmp_path, tiny.conversations(20), held_out=0), [Format.CONVERSATION], eval_rows=5, seed=0
    )
    assert (len(split.train), split.held_out) == (20, [])


def test_an_evaluation_set_is_used_whole_up_to_the_limit(tmp_path: Path) -> None:
    others = tiny.write_rows(tmp_path / "eval.jsonl", tiny.preferences(8, seed=5))
    spec = run_spec(tmp_path, tiny.conversations(20), eval_dataset={"path": str(others), "format": "preference"})
    split = load_split(spec, [Format.CONVERSATION], eval_rows=200, seed=0)
    assert (len(split.train), len(split.held_out)) == (20, 8)
    assert all(row["messages"][-1]["role"] == "assistant" for row in split.held_out)
    assert len(load_split(spec, [Format.CONVERSATION], eval_rows=3, seed=0).held_out) == 3


def test_a_dataset_that_can_become_what_is_needed_is_converted(tmp_path: Path) -> None:
    split = load_split(
        run_spec(tmp_path, tiny.preferences(20), Format.PREFERENCE), [Format.CONVERSATION], eval_rows=2, seed=0
    )
    assert split.format is Format.CONVERSATION
    assert "messages" in split.train[0]


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("", "data.empty", "no row"),
        ("\n\n", "data.empty", "no row"),
        ('{"messages": []}\n{"messa', "data.syntax", "Line 2"),
        ("[1]", "data.syntax", "Line 1"),
        ('{"messages": [], "x": 1}\n{"x": 1}', "data.column", "Row 2 has no messages"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, content: str, code: str, words: str) -> None:
    spec = run_spec(tmp_path, [])
    spec.dataset.path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        load_split(spec, [Format.CONVERSATION], eval_rows=2, seed=0)
    assert caught.value.code == code


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    spec = run_spec(tmp_path, [])
    spec.dataset.path.write_bytes(b'{"messages": "\xff"}')
    with pytest.raises(DataError, match="UTF-8"):
        load_split(spec, [Format.CONVERSATION], eval_rows=2, seed=0)
    spec.dataset.path.unlink()
    with pytest.raises(DataError, match="No such file"):
        load_split(spec, [Format.CONVERSATION], eval_rows=2, seed=0)


def test_a_dataset_of_another_kind_is_refused(tmp_path: Path) -> None:
    spec = run_spec(tmp_path, tiny.texts_of(5), Format.TEXT)
    with pytest.raises(DataError) as caught:
        load_split(spec, [Format.PREFERENCE], eval_rows=2, seed=0)
    assert caught.value.code == "data.format"
    assert json.dumps(caught.value.as_dict())
