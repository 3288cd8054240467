"""The library: rows that its tasks make, and what its scorers say once the rows were written down."""

import inspect
import json
import logging
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from polm_core.errors import ConfigError, DataError
from polm_core.gym import library
from polm_core.gym.library import checked_task, task_rows, task_score
from polm_core.gym.tasks import TaskChoice, tasks

BROKEN_OUT = Path(tempfile.gettempdir()) / "carried-out"


def rows(task: str, **choice: Any) -> list[dict[str, Any]]:
    """Rows as they are read from a file."""
    made = task_rows(TaskChoice.model_validate({"task": task, "size": 3, "seed": 11, **choice}))
    return [json.loads(json.dumps(row)) for row in made]


@pytest.mark.parametrize("task", tasks())
def test_the_answer_that_a_row_holds_is_right_and_others_are_not(task: str) -> None:
    level = next(iter([one.level for one in tasks()[task].levels]), None)
    for row in rows(task) + rows(task, level=level):
        assert isinstance(row["prompt"], str)
        assert row["answer"]
        assert task_score(row["answer"], row["answer"], row["task"]) == 1.0
        assert task_score("I do not know.", row["answer"], row["task"]) < 0.3


def test_the_same_choice_makes_the_same_rows() -> None:
    assert rows("chain_sum", level=2) == rows("chain_sum", level=2)
    assert rows("chain_sum", level=2) != rows("chain_sum", level=2, seed=12)
    assert rows("chain_sum", level=2) == rows("chain_sum", level=2, size=9)[:3]


def test_rows_that_ask_the_same_are_equal() -> None:
    made = rows("chain_sum", level=1, size=300)
    asked = {row["prompt"] for row in made}
    assert len(asked) < 300
    assert len({json.dumps(row, sort_keys=True) for row in made}) == len(asked)


def test_a_row_that_cannot_be_made_is_told() -> None:
    # A level that does not pass its task's own checks, which is why it is not offered.
    unfit = TaskChoice.model_construct(task="caesar_cipher", level=3, size=2, seed=0)
    with pytest.raises(DataError, match="caesar_cipher could not make row 1: AssertionError") as caught:
        list(task_rows(unfit))
    assert caught.value.code == "data.task"


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("countdown", f"__import__('os').mkdir('{BROKEN_OUT}')"),
        ("countdown", "9**9**9**9"),
        ("countdown", "9* *9* *9* *9"),
        ("countdown", "(" * 5000),
        ("puzzle24", "exec(chr(112))"),
        ("coin_flip", "1e999999999"),
        ("products", "9" * 200_000),
        ("word_sorting", "\ud800"),
        ("prime_factorization", "no number"),
    ],
)
def test_no_answer_is_carried_out_or_keeps_a_scorer_for_long(task: str, answer: str) -> None:
    row = rows(task)[0]
    began = time.monotonic()
    assert task_score(answer, row["answer"], row["task"]) < 0.1
    assert time.monotonic() - began < 10
    assert not BROKEN_OUT.exists()


def test_what_is_offered_evaluates_no_text() -> None:
    found = set()
    for task in tasks():
        module = sys.modules[type(library._dataset(task, None, 1, 0)).__module__]
        if re.search(r"\b(eval|exec|parse_expr|sympify)\(", inspect.getsource(module)):
            found.add(task)
    # The first evaluates what it made itself, while it makes a row; the others see nothing but sums.
    assert found == {"basic_arithmetic", *library._SUMS}


def test_a_sum_is_still_worked_out() -> None:
    row = rows("countdown")[0]
    numbers, target = row["task"]["metadata"]["numbers"], row["task"]["metadata"]["target"]
    assert task_score(row["answer"], "", row["task"]) == 1.0
    assert task_score(f"({row['answer']})", "", row["task"]) == 1.0
    assert task_score("+".join(map(str, numbers)), "", row["task"]) < (1.0 if sum(numbers) != target else 1.1)


def test_a_scorer_that_fails_gives_0_and_that_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    row = rows("maze")[0] | {"task": {"name": "prime_factorization", "level": None, "metadata": {}}}
    with caplog.at_level(logging.WARNING):
        given = [task_score(text, "2 × 3", row["task"]) for text in ("ten", "2 × x", "three", "four")]
    assert given == [0.0] * 4
    told = [record.getMessage() for record in caplog.records]
    assert 1 <= len(told) < 4
    assert "prime_factorization failed on" in told[-1]
    assert "gets 0" in told[-1]


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"name": "n_queens", "level": None, "metadata": {}}, "left out"),
        ({"name": "chain_sum", "level": 77, "metadata": {}}, "must be left out or one of 1"),
        ({"name": "chain_sum", "level": "2", "metadata": {}}, "a level or null"),
        ({"name": ["chain_sum"], "metadata": {}}, "the name of a task"),
        ({"name": "chain_sum", "level": 2}, "must have the metadata"),
        ("chain_sum", "must be an object"),
    ],
)
def test_a_row_whose_task_cannot_verify_is_refused(task: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        checked_task(task)
    assert list(caught.value.fields) == ["config.rewards.reasoning_gym"]


def test_nothing_stands_for_packages_that_are_absent_afterwards() -> None:
    assert rows("gcd")
    assert not {"cellpylib", "pycosat", "magiccube", "zss"} & sys.modules.keys()
