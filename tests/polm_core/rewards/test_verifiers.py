"""What each reward says of a text: tables of completion, the row's answer, settings and the number."""

import math
import time
from typing import Any

import pytest

from polm_core.rewards.config import REWARD_NAMES, RewardsConfig
from polm_core.rewards.verifiers import VERIFIERS, final_answer, final_part

DEEP = "[" * 100_000
BOMB = "$9^{9^{9^{9}}}$"

CASES: dict[str, list[tuple[str, str | None, dict[str, Any], float | None]]] = {
    "math": [
        ("The answer is 5.", "5", {}, 1.0),
        ("2 + 3 = 5", "5", {}, 1.0),
        ("5 marbles, no, 6", "5", {}, 0.0),
        ("It is 1,234 metres.", "1234", {}, 1.0),
        (r"So $x = \frac{1}{2}$.", "0.5", {}, 1.0),
        (r"\boxed{(x+1)^2}", "$x^2 + 2x + 1$", {}, 1.0),
        ("-7", "7", {}, 0.0),
        ("<think>maybe 4</think> 5", "5", {}, 1.0),
        ("<think>5", "5", {}, 0.0),
        ("", "5", {}, 0.0),
        ("no idea", "5", {}, 0.0),
        ("é 数 👍 5", "5", {}, 1.0),
        ("9" * 6000, "9" * 6000, {}, 1.0),
        ("9" * 5000, "5", {}, 0.0),
        ("1e400", "5", {}, 0.0),
        (BOMB, "5", {}, 0.0),
        ("5", BOMB, {}, 0.0),
        ("$1/0$", "5", {}, 0.0),
        ("(" * 5000, "5", {}, 0.0),
        ("Paris", "Paris", {}, None),
        ("5", "", {}, None),
        ("5", None, {}, None),
    ],
    "exact": [
        ("Paris", "Paris", {}, 1.0),
        (" Paris\n", "Paris ", {}, 1.0),
        ("paris", "Paris", {}, 0.0),
        ("It is Paris", "Paris", {}, 0.0),
        ("<think>Rome?</think>\nParis", "Paris", {}, 1.0),
        ("caf\u00e9", "cafe\u0301", {}, 1.0),
        ("", "", {}, 1.0),
        ("", "Paris", {}, 0.0),
        ("Paris", None, {}, None),
    ],
    "regex": [
        ("order 66", None, {"regex_pattern": r"\d{2}"}, 1.0),
        ("order 6", None, {"regex_pattern": r"\d{2}"}, 0.0),
        ("YES", None, {"regex_pattern": "(?i)^yes$"}, 1.0),
        ("<think>yes</think> no", None, {"regex_pattern": "yes"}, 1.0),
        ("é数👍", None, {"regex_pattern": "数"}, 1.0),
        ("half a pair \ud83d", None, {"regex_pattern": "pair"}, 1.0),
        ("", None, {"regex_pattern": "x"}, 0.0),
        ("", None, {"regex_pattern": "^$"}, 1.0),
        ("a" * 100_000 + "b", None, {"regex_pattern": "(a+)+$"}, 0.0),
    ],
    "valid_json": [
        ('{"a": 1}', None, {}, 1.0),
        ('Here: {"a": 1}', None, {}, 0.0),
        ('```json\n{"a": 1}\n```', None, {}, 1.0),
        ('<think>hm</think>{"a": 1}', None, {}, 1.0),
        ("", None, {}, 0.0),
        ("NaN", None, {}, 0.0),
        (DEEP, None, {}, 0.0),
        ("9" * 5000, None, {}, 0.0),
        ('{"a": "é数"}', None, {"json_schema": '{"required": ["a"]}'}, 1.0),
        ('{"b": 1}', None, {"json_schema": '{"required": ["a"]}'}, 0.0),
        ("1e400", None, {"json_schema": '{"multipleOf": 3}'}, 0.0),
        ('"2026"', None, {"json_schema": {"pattern": r"^\d{4}$"}}, 1.0),
        (f'"{"a" * 50_000}b"', None, {"json_schema": {"pattern": "^(a+)+$"}}, 0.0),
    ],
    "think_tags": [
        ("<think>2 and 3</think>5", None, {}, 1.0),
        ("\n<think>\nhm\n</think>\n\n5", None, {}, 1.0),
        ("<think></think>5", None, {}, 0.0),
        ("<think>2 and 3</think>", None, {}, 0.0),
        ("<think>2 and 3", None, {}, 0.0),
        ("5 <think>was it?</think> yes", None, {}, 0.0),
        ("<think>a</think><think>b</think>5", None, {}, 0.0),
        ("</think>a<think>5", None, {}, 0.0),
        ("5", None, {}, 0.0),
        ("", None, {}, 0.0),
    ],
    "length": [
        ("abcd", None, {"length_min": 2, "length_max": 4}, 1.0),
        ("a", None, {"length_min": 2, "length_max": 4}, 0.5),
        ("abcdef", None, {"length_min": 2, "length_max": 4}, 0.5),
        ("a" * 8, None, {"length_min": 2, "length_max": 4}, 0.0),
        ("a" * 10_000, None, {"length_min": 2, "length_max": 4}, 0.0),
        ("<think>not counted</think>abcd", None, {"length_min": 2, "length_max": 4}, 1.0),
        ("数学", None, {"length_min": 2, "length_max": 4}, 1.0),
        ("", None, {}, 0.0),
        ("", None, {"length_min": 0}, 1.0),
    ],
    "no_repeats": [
        ("one two three four", None, {}, 1.0),
        ("so it is so it is so it is", None, {}, 3 / 7),
        ("So it is, so it is", None, {}, 1.0),
        ("a a a a", None, {}, 0.5),
        ("two words", None, {}, 1.0),
        ("", None, {}, 0.0),
        (" \n ", None, {}, 0.0),
    ],
    "instructions": [
        ("A short one", None, {"max_words": 3}, 1.0),
        ("A bit too long", None, {"max_words": 3}, 0.0),
        ("- a\n- b", None, {"bullet_points": 2, "no_commas": True}, 1.0),
        ("- a, b", None, {"bullet_points": 2, "no_commas": True}, 0.0),
        ("Apples and pears", None, {"must_contain": ["apples", "PEARS", "plums"]}, 2 / 3),
        ("Apples", None, {"must_not_contain": "pears"}, 1.0),
        ("straße", None, {"must_contain": ["STRASSE"], "letter_case": "lower"}, 1.0),
        ("SHOUT", None, {"letter_case": "upper", "ends_with": "OUT"}, 1.0),
        ("<think>, , ,</think>quiet", None, {"no_commas": True}, 1.0),
        ("", None, {"no_commas": True}, 0.0),
    ],
}


def test_every_reward_but_those_of_models_is_a_function_with_a_table() -> None:
    # Those of tasks have a table of their own.
    assert [*VERIFIERS, "reward_model", "judge"] == [name for name in REWARD_NAMES if name != "reasoning_gym"]
    assert CASES.keys() == VERIFIERS.keys()
    assert all(verifier.__doc__ for verifier in VERIFIERS.values())


@pytest.mark.parametrize(
    ("name", "completion", "answer", "settings", "expected"),
    [
        pytest.param(name, *case, id=f"{name}: {case[0][:30]!r} for {str(case[1])[:10]!r}")
        for name, cases in CASES.items()
        for case in cases
    ],
)
def test_a_text_gets_what_the_table_says(
    name: str, completion: str, answer: str | None, settings: dict[str, Any], expected: float | None
) -> None:
    config = RewardsConfig(**settings)
    began = time.monotonic()
    given = VERIFIERS[name](completion, answer, config)
    assert time.monotonic() - began < 30, "no text may hang a run"
    assert given == (expected if expected is None else pytest.approx(expected))
    assert given is None or (isinstance(given, float) and 0 <= given <= 1 and math.isfinite(given))
    assert VERIFIERS[name](completion, answer, config) == given, "the same text gets the same again"


@pytest.mark.parametrize(
    ("completion", "final"),
    [("5", "5"), (" <think>a</think> 5 ", "5"), ("<think>a", ""), ("a</think>5", "5"), ("", "")],
)
def test_thoughts_are_not_what_is_said(completion: str, final: str) -> None:
    assert final_part(completion) == final


@pytest.mark.parametrize(
    ("by", "texts", "said"),
    [
        ("math", ["So 2 + 3 = 5.", "<think>6?</think> The answer is $5$", "5"], "5"),
        ("math", [r"It is $\frac{1}{2}$.", "1/2"], "1/2"),
        ("math", ["I do not know.", "", "<think>5"], None),
        ("exact", [" yes ", "<think>no</think>\nyes"], "yes"),
        ("exact", ["", "<think>yes"], None),
    ],
)
def test_texts_that_say_the_same_in_the_end_are_one_vote(by: Any, texts: list[str], said: str | None) -> None:
    assert {final_answer(text, by) for text in texts} == {said}
