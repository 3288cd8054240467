"""The table of tasks: what it holds, and what is said of a choice that cannot be."""

import os
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from polm_core.gym.library import LEFT_OUT
from polm_core.gym.tasks import TABLE, TaskChoice, table, tasks


def test_the_table_is_what_the_library_offers() -> None:
    command = [sys.executable, "-m", "polm_core.gym"]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    assert done.stdout == TABLE.read_bytes(), "write it anew: PYTHONHASHSEED=0 python -m polm_core.gym"


def test_what_is_left_out_is_there_and_has_a_reason() -> None:
    assert table().left_out == LEFT_OUT
    assert all(LEFT_OUT.values())
    assert not tasks().keys() & LEFT_OUT.keys()


def test_a_level_says_what_it_sets() -> None:
    levels = {one.level: one.says for one in tasks()["chain_sum"].levels}
    assert levels[1] == "terms 2, digits 1"
    assert levels[3] == "terms 2 to 4, digits 1 to 3"
    assert tasks()["chain_sum"].title == "Chain sum"


@pytest.mark.parametrize(
    ("choice", "field", "problem"),
    [
        ({"task": "chain_sums"}, "task", "did you mean chain_sum or decimal_chain_sum?"),
        ({"task": "zzzzzz"}, "task", "must be a task of reasoning-gym, such as ab"),
        ({"task": "__import__('os')"}, "task", "must be a task of reasoning-gym"),
        ({"task": "n_queens"}, "task", "left out: its scorer runs answers"),
        ({"task": "chain_sum", "level": 99}, "level", "one of 1, 2, 3"),
        ({"task": "caesar_cipher", "level": 3}, "level", "one of 1, 2, which caesar_cipher has"),
        ({"task": "gsm_symbolic", "level": 1}, "level", "always as hard"),
        ({"task": "gcd", "size": 0}, "size", "greater than or equal to 1"),
        ({"task": "gcd", "size": 50_001}, "size", "less than or equal to 50000"),
        ({"task": "gcd", "seed": -1}, "seed", "greater than or equal to 0"),
        ({"task": "gcd", "min_value": 3}, "min_value", "Extra inputs"),
    ],
)
def test_a_choice_that_cannot_be_says_what_can(choice: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TaskChoice.model_validate({"size": 10, **choice})
    (error,) = caught.value.errors()
    assert (error["loc"], problem in error["msg"]) == ((field,), True), error["msg"]


def test_the_table_is_read_without_the_library() -> None:
    code = "import sys; from polm_core.gym.tasks import tasks; assert tasks(); print('reasoning_gym' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
