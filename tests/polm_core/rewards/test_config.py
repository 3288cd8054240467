"""The settings of rewards: what is accepted, and what is said of what is not."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from polm_core.rewards.config import OnlineConfig, RewardsConfig


def problem(config: type[RewardsConfig] | type[OnlineConfig], **settings: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        config(**settings)
    (first,) = caught.value.errors()
    return ".".join(map(str, first["loc"])), first["msg"]


def test_a_list_of_weights_is_plain_data_and_reads_back() -> None:
    written = json.loads(RewardsConfig(math=0, regex=-0.5, regex_pattern="sorry", length=0.2).model_dump_json())
    read = RewardsConfig.model_validate(written)
    assert read.weights == {"regex": -0.5, "length": 0.2}
    assert read.comparing == []
    assert RewardsConfig().comparing == ["math"]


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        ({"math": 0}, "", "at least one reward a weight"),
        ({"math": 101}, "math", "less than or equal to 100"),
        ({"math": float("nan")}, "math", "finite"),
        ({"maths": 1}, "maths", "not permitted"),
        ({"regex": 1}, "regex_pattern", "while regex has a weight"),
        ({"regex_pattern": "(a"}, "regex_pattern", "missing ): (a"),
        ({"regex_pattern": r"(a)\1"}, "regex_pattern", "RE2"),
        ({"regex_pattern": "((a{1000}){1000}){1000}"}, "regex_pattern", "RE2"),
        ({"length_min": 5, "length_max": 4}, "length_max", "at least length_min, 5"),
        ({"min_words": 5, "max_words": 4}, "max_words", "at least min_words, 5"),
        ({"instructions": 1}, "", "such as max_words"),
        ({"json_schema": "{"}, "json_schema", "must be JSON"),
        ({"json_schema": '"text"'}, "json_schema", "must be a JSON Schema"),
        ({"json_schema": {"type": "objct"}}, "json_schema", "must be a JSON Schema"),
        ({"json_schema": {"$ref": "https://example.org/schema"}}, "json_schema", "must not use $ref"),
        ({"json_schema": {"not": {"$ref": "#"}}}, "json_schema", "must not use $ref"),
        ({"json_schema": {"patternProperties": {"(a+)+$": {}}}}, "json_schema", "must not use patternProperties"),
        ({"json_schema": {"items": {"pattern": "(?=a)"}}}, "json_schema", "RE2"),
        ({"json_schema": '{"not":' * 1000 + "{}" + "}" * 1000}, "json_schema", "nested so deeply"),
        ({"json_schema": " " * 20_001}, "json_schema", "at most 20000 characters"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_would_be_right(
    settings: dict[str, Any], field: str, said: str
) -> None:
    where, message = problem(RewardsConfig, **settings)
    assert where == field
    assert said in message


def test_words_and_schemas_may_come_as_a_form_or_a_program_writes_them() -> None:
    config = RewardsConfig.model_validate(
        {"must_contain": "apples, pears", "must_not_contain": [5, " "], "json_schema": {"type": "object"}}
    )
    assert (config.must_contain, config.must_not_contain) == (["apples", "pears"], ["5"])
    assert json.loads(config.json_schema) == {"type": "object"}


def test_rewards_may_come_as_a_list() -> None:
    config = RewardsConfig.model_validate(["think_tags", {"type": "length", "weight": 0.5, "length_max": 80}])
    assert config.weights == {"think_tags": 1.0, "length": 0.5}
    assert config.length_max == 80


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        (["maths"], "one of math, exact"),
        ([5], "each name their type"),
        ([{"weight": 1}], "each name their type"),
        ([{"type": ["math"]}], "each name their type"),
        (["math", {"type": "math"}], "must not name math twice"),
        ([], "at least one reward a weight"),
        ([{"type": "math", "wight": 2}], "not permitted"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(rewards: list[Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RewardsConfig.model_validate(rewards)


def test_answers_to_a_prompt_divide_the_answers_of_a_step() -> None:
    where, message = problem(OnlineConfig, batch_size=6, num_generations=4)
    assert where == "num_generations"
    assert "processes, 6, not be 4, such as 2, 3, 6" in message
    assert OnlineConfig(batch_size=2, gradient_accumulation_steps=4, num_generations=4).prompts_per_rollout == 2
    where, message = problem(OnlineConfig, batch_size=1)
    assert "raise batch_size" in message
    # What is wrong with a size is said of that size alone.
    assert problem(OnlineConfig, batch_size=0)[0] == "batch_size"
