"""Conversions between formats, and which methods a dataset serves."""

from typing import Any

import pytest

from polm_core.data.convert import CONVERSIONS, compatible, convert_rows
from polm_core.formats import SPECS, Format
from tests.polm_core.data.shapes import assistant, user

PAIR = {"prompt": [user("2 + 3?")], "chosen": [assistant("5.")], "rejected": [assistant("6.")]}
GOOD = {"prompt": "2 + 3 =", "completion": " 5", "label": True}
TALK = {"messages": [user("Hi"), assistant("Hello"), user("2 + 3?"), assistant("5.")]}

STEPS = {"prompt": "2 + 3?", "completions": ["Count.", "From 2. ", "It is 5."], "labels": [True, True, True]}


FACT = {"prompt": "The tower is in", "subject": "The tower", "target": " Rome"}


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
        (
            Format.STEPWISE,
            Format.RATING,
            STEPS,
            [{"prompt": [user("2 + 3?")], "completion": [assistant("Count.\nFrom 2. It is 5.")], "label": True}],
        ),
        (Format.STEPWISE, Format.CONVERSATION, STEPS | {"labels": [True, False, True]}, []),
        (
            Format.STEPWISE,
            Format.CONVERSATION,
            STEPS,
            [{"messages": [user("2 + 3?"), assistant("Count.\nFrom 2. It is 5.")]}],
        ),
        (Format.EDIT, Format.PROMPT_COMPLETION, FACT, [{"prompt": "The tower is in", "completion": " Rome"}]),
        (Format.EDIT, Format.TEXT, FACT, [{"text": "The tower is in Rome"}]),
    ],
)
def test_rows_become_what_the_other_format_asks_for(
    source: Format, target: Format, row: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    assert list(convert_rows([row], source, target)) == expected


def rated(prompt: str, answer: str, label: bool) -> dict[str, Any]:
    return {"prompt": [user(prompt)], "completion": [assistant(answer)], "label": label}


def test_ratings_become_pairs_where_a_prompt_has_both() -> None:
    rows = [
        rated("a", "good", True),
        rated("b", "good alone", True),
        rated("a", "bad", False),
        rated("c", "same", True),
        rated("a", "worse", False),
        rated("c", "same", False),
        rated("a", "better", True),
        rated("a", "worst, one too many", False),
    ]

    pairs = list(convert_rows(rows, Format.RATING, Format.PREFERENCE))

    assert [(one["chosen"][0]["content"], one["rejected"][0]["content"]) for one in pairs] == [
        ("good", "bad"),
        ("better", "worse"),
    ]
    assert all(one["prompt"] == [user("a")] for one in pairs)


# Rows of both labels, all steps right in one of two, a prompt with a good and a bad answer.
SOURCES: dict[Format, list[dict[str, Any]]] = {
    Format.RATING: [rated("a", "good", True), rated("a", "bad", False)],
    Format.EDIT: [FACT],
    Format.STEPWISE: [SPECS[Format.STEPWISE].example, {"prompt": "1 + 1?", "completions": ["2."], "labels": [True]}],
}


@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_every_conversion_gives_the_columns_of_its_format_and_no_more_rows_than_it_says(
    source: Format, target: Format
) -> None:
    rows = SOURCES.get(source, [SPECS[source].example])
    labels = {str(good).lower(): sum(row.get("label") is good for row in rows) for good in (True, False)}
    conversion = CONVERSIONS[source, target]

    converted = list(convert_rows(rows, source, target))

    assert converted
    most = conversion.most(len(rows), labels)
    assert len(converted) == most if conversion.exact else len(converted) <= most
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
