"""Choosing among rows: splits that hold each row once, filters, mixtures."""

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from polm_core.data.choose import Filter, MixedPart, Split, mixed, takes
from polm_core.data.values import Row


def numbered(count: int, word: str = "row") -> list[Row]:
    return [{"prompt": f"{word} {place // 4}", "completion": f" {place}"} for place in range(count)]


def sides(rows: list[Row], **values: Any) -> tuple[list[Row], list[Row]]:
    train, held_out = (list(Split(side=side, **values).chosen(rows, len(rows))) for side in ("train", "held-out"))
    return train, held_out


@pytest.mark.parametrize("by", ["random", "content", "prompt"])
def test_each_row_is_on_one_side_of_a_split(by: str) -> None:
    rows = numbered(400)
    train, held_out = sides(rows, share=0.25, by=by, seed=3)
    assert sorted([*train, *held_out], key=str) == sorted(rows, key=str)
    assert 60 <= len(held_out) <= 140
    assert sides(rows, share=0.25, by=by, seed=4)[1] != held_out
    if by == "prompt":
        assert not {row["prompt"] for row in train} & {row["prompt"] for row in held_out}


@pytest.mark.parametrize(("count", "share", "expected"), [(400, 0.25, 100), (10, 0.01, 1), (10, 0.999, 9), (2, 0.5, 1)])
def test_a_random_split_holds_out_just_its_share(count: int, share: float, expected: int) -> None:
    train, held_out = sides(numbered(count), share=share)
    assert (len(train), len(held_out)) == (count - expected, expected)


def test_a_row_keeps_its_side_when_others_are_added() -> None:
    few, many = (sides(numbered(count), share=0.3, by="content")[1] for count in (100, 300))
    assert [row for row in many if row in numbered(100)] == few


TALK = {"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "As an AI, I am"}]}
FACT = {"prompt": "Rome is in", "completion": " Italy"}


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ({"lacks": "(?i)as an ai"}, [FACT, FACT]),
        ({"contains": "^Rome"}, [FACT, FACT]),
        ({"least_characters": 17}, [TALK]),
        ({"most_characters": 16}, [FACT, FACT]),
        ({"distinct": True}, [TALK, FACT]),
        ({"contains": "Italy", "distinct": True}, [FACT]),
    ],
)
def test_rows_are_kept_that_fit_every_rule(rules: dict[str, Any], kept: list[Row]) -> None:
    assert list(Filter(**rules).chosen([TALK, FACT, FACT], 3)) == kept


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({}, "says nothing"),
        ({"least_characters": 9, "most_characters": 8}, "above the most"),
        ({"contains": "(a"}, "regular expression of RE2"),
        ({"lacks": "(?=a)"}, "regular expression of RE2"),
        ({"least_characters": 0}, "greater than or equal to 1"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says.replace("(", "\\(")):
        Filter(**rules)


def test_a_mixture_draws_and_mixes_by_chance() -> None:
    sources = [numbered(400, "a"), numbered(100, "b")]
    parts = [MixedPart(rows=400, take=100), MixedPart(rows=100, take=100)]
    rows = list(mixed(sources, parts, seed=1))
    assert Counter(row["prompt"][0] for row in rows) == {"a": 100, "b": 100}
    assert 30 <= sum(row["prompt"][0] == "a" for row in rows[:100]) <= 70, "neither stands before the other"
    assert [row for row in rows if row["prompt"][0] == "b"] == sources[1], "those of one source stay in their order"
    assert len({row["completion"] for row in rows if row["prompt"][0] == "a"}) == 100, "none is drawn twice"
    assert list(mixed(sources, parts, seed=1)) == rows
    assert list(mixed(sources, parts, seed=2)) != rows


@pytest.mark.parametrize(
    ("rows", "weights", "total", "expected"),
    [
        ([100, 100], [1, 1], None, [100, 100]),
        ([100, 300], [1, 1], None, [100, 100]),
        ([100, 300], [1, 3], None, [100, 300]),
        ([1000, 1000, 1000], [0.5, 0.25, 0.25], 400, [200, 100, 100]),
    ],
)
def test_weights_say_how_many_rows_each_part_gives(
    rows: list[int], weights: list[float], total: int | None, expected: list[int]
) -> None:
    assert takes(rows, weights, total) == expected


@pytest.mark.parametrize(
    ("rows", "weights", "total", "says"),
    [([100, 300], [1, 1], 201, "at most 200 rows"), ([100, 300], [1, 999], 100, "dataset 1 would give no row")],
)
def test_mixtures_that_cannot_be_are_refused(
    rows: list[int], weights: list[float], total: int | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        takes(rows, weights, total)
