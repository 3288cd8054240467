"""Conversions between formats, and which methods a dataset serves."""

from typing import Any

import pytest

from polm_core.data.convert import CONVERSIONS, compatible, convert_rows
from polm_core.formats import SPECS, Format
from tests.polm_core.data.shapes import assistant, user

PAIR = {"prompt": [user("2 + 3?")], "chosen": [assistant("5.")], "rejected": [assistant("6.")]}
GOOD = {"prompt": "2 + 3 =", "completion": " 5", "label": True}
TALK = {"messages": [user("Hi"), assistant("Hello"), user("2 + 3?"), assistant("5.")]}


def answer(text: str, solution: str | None = None) -> dict[str, Any]:
    row = {"prompt": "2 + 3?", "answer": text}
    return row | {"solution": solution} if solution else row


@pytest.mark.parametrize(
    ("source", "target", "row", "expected"),
    [
        (
            Format.PREFERENCE,
            Format.RATING,
            PAIR,
            [
                {"prompt": PAIR["prompt"], "completion": PAIR["chosen"], "label": True},
                {"prompt": PAIR["prompt"], "completion": PAIR["rejected"], "label": False},
            ],
        ),
        (Format.PREFERENCE, Format.CONVERSATION, PAIR, [{"messages": [user("2 + 3?"), assistant("5.")]}]),
        (Format.RATING, Format.CONVERSATION, GOOD, [{"messages": [user("2 + 3 ="), assistant(" 5")]}]),
        (Format.RATING, Format.CONVERSATION, GOOD | {"label": False}, []),
        (Format.RATING, Format.PROMPT_COMPLETION, GOOD, [{"prompt": "2 + 3 =", "completion": " 5"}]),
        (Format.PROMPT_ANSWER, Format.CONVERSATION, answer("5"), [{"messages": [user("2 + 3?"), assistant("5")]}]),
        (
            Format.PROMPT_ANSWER,
            Format.CONVERSATION,
            answer("5", "Count on from 2."),
            [{"messages": [user("2 + 3?"), assistant("Count on from 2.\n5")]}],
        ),
        (
            Format.PROMPT_ANSWER,
            Format.PROMPT_COMPLETION,
            answer("1000", "First this.\nThen it is 1,000."),
            [{"prompt": "2 + 3?", "completion": "First this.\nThen it is 1,000."}],
        ),
        (
            Format.PROMPT_ANSWER,
            Format.PROMPT_COMPLETION,
            answer("5", "It is 15 less 10."),
            [{"prompt": "2 + 3?", "completion": "It is 15 less 10.\n5"}],
        ),
        (
            Format.CONVERSATION,
            Format.PROMPT_COMPLETION,
            TALK,
            [{"prompt": TALK["messages"][:3], "completion": [assistant("5.")]}],
        ),
        (Format.CONVERSATION, Format.PROMPT, TALK, [{"prompt": TALK["messages"][:3]}]),
        (Format.CONVERSATION, Format.PROMPT, TALK | {"tools": [{}]}, []),
        (Format.CONVERSATION, Format.CONVERSATION, TALK, [TALK]),
    ],
)
def test_rows_become_what_the_other_format_asks_for(
    source: Format, target: Format, row: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    assert list(convert_rows([row], source, target)) == expected


@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_every_conversion_gives_the_columns_of_its_format(source: Format, target: Format) -> None:
    converted = list(convert_rows([SPECS[source].example], source, target))

    assert converted
    for row in converted:
        assert set(SPECS[target].columns) <= set(row) <= {*SPECS[target].columns, *SPECS[target].optional}


def test_what_a_method_can_use() -> None:
    direct = compatible([Format.PREFERENCE], Format.PREFERENCE)
    converted = compatible([Format.CONVERSATION, Format.PROMPT_COMPLETION], Format.PREFERENCE)
    refused = compatible([Format.PREFERENCE], Format.CONVERSATION)

    assert (direct.ok, direct.target) == (True, Format.PREFERENCE)
    assert (converted.ok, converted.target) == (True, Format.CONVERSATION)
    assert converted.reason == "Preference: converted to conversation."
    assert (refused.ok, refused.target) == (False, None)
    assert refused.reason == (
        "This method needs preference (columns prompt, chosen, rejected); this dataset is conversation."
    )
