"""Mappings: what is accepted, and what they make of rows."""

from typing import Any

import pytest
from pydantic import ValidationError

from polm_core.data.apply import apply_mapping
from polm_core.data.mapping import ROLES, SHAPES, Mapping, roles_of
from polm_core.data.problems import RowProblem
from polm_core.errors import DataError
from polm_core.formats import Format
from tests.polm_core.data.shapes import assistant, system, user

PAIR = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}


def mapped(row: dict[str, Any], format: Format, columns: dict[str, str], **options: Any) -> dict[str, Any]:
    return apply_mapping(row, Mapping.model_validate({"format": format, "columns": columns, "options": options}))


def problem(row: dict[str, Any], format: Format, columns: dict[str, str], **options: Any) -> RowProblem:
    with pytest.raises(RowProblem) as caught:
        mapped(row, format, columns, **options)
    assert caught.value.advice
    return caught.value


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"format": "preference", "columns": {"chosen": "a"}}, "preference takes chosen, rejected (optional: prompt"),
        ({"format": "text", "columns": {"text": "a", "label": "b"}}, "given: label, text"),
        ({"format": "edit", "columns": {"text": "a"}}, "edit takes prompt, subject, target (optional: paraphrases"),
        ({"format": "poem", "columns": {"text": "a"}}, "Input should be 'conversation'"),
        ({"format": "text", "columns": {}}, "at least 1 item"),
        ({"format": "text", "columns": {"text": "a"}, "regex": "(a+)+"}, "Extra inputs are not permitted"),
        ({"format": "text", "columns": {"text": "a"}, "options": {"eval": "1"}}, "Extra inputs are not permitted"),
        ({"format": "text", "columns": {"text": "a"}, "options": {"roles": {"me": "king"}}}, "'system', 'user'"),
        ({"format": "text", "columns": {"text": "a"}, "options": {"label_threshold": "nan"}}, "finite number"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(mapping: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Mapping.model_validate(mapping)

    assert says in str(caught.value)


def test_a_column_that_is_not_there_is_named_with_the_nearest() -> None:
    mapping = Mapping(format=Format.TEXT, columns={"text": "contnet"})

    with pytest.raises(DataError) as caught:
        mapping.check({"content", "title", "url"})

    assert caught.value.fields == {"mapping.columns.text": ["no column 'contnet'; there is content"]}


def test_every_role_is_described_and_every_option_has_help() -> None:
    used = {role for shapes in SHAPES.values() for shape in shapes for role in (*shape.required, *shape.optional)}
    schema = Mapping.model_json_schema()

    assert used == set(ROLES)
    assert all(field.get("description") for field in schema["$defs"]["MappingOptions"]["properties"].values())
    assert roles_of(Format.PREFERENCE) == {
        "chosen": False,
        "rejected": False,
        "prompt": False,
        "input": False,
        "system": False,
        "response_a": False,
        "response_b": False,
        "winner": False,
    }
    assert roles_of(Format.TEXT) == {"text": True}


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ({"a": {"b": {"c": "hit"}}}, "a.b.c"),
        ({"a.b": {"c": "hit"}}, "a.b.c"),
        ({"a.b.c": "hit", "a": {"b": {"c": "miss"}}}, "a.b.c"),
        ({"a": [{"b": "hit"}, {"b": "miss"}]}, "a.0.b"),
        ({"a": '{"b": ["miss", "hit"]}'}, "a.b.1"),
    ],
)
def test_paths_reach_nested_and_encoded_values(row: dict[str, Any], path: str) -> None:
    assert mapped(row, Format.TEXT, {"text": path}) == {"text": "hit"}


@pytest.mark.parametrize("path", ["a.x", "a.0.b", "b.5", "b.x", "b.0.c", "c"])
def test_paths_that_lead_nowhere_are_empty(path: str) -> None:
    row = {"a": {"b": "c"}, "b": ["d"]}

    assert problem(row, Format.TEXT, {"text": path}).rule == "text.empty"


@pytest.mark.parametrize(
    ("completion", "options", "expected"),
    [
        ("Yes.", {}, {"prompt": [user("Is it?")], "completion": [assistant("Yes.")]}),
        ("Yes.", {"chat": False}, {"prompt": "Is it?", "completion": "Yes."}),
        (5, {"chat": False}, {"prompt": "Is it?", "completion": "5"}),
        ("Is it? Yes.", {"chat": False, "strip_prompt": True}, {"prompt": "Is it?", "completion": " Yes."}),
        ([assistant("Yes.")], {"chat": False}, {"prompt": [user("Is it?")], "completion": [assistant("Yes.")]}),
        ("[1, 2]", {"chat": False}, {"prompt": "Is it?", "completion": "[1, 2]"}),
    ],
)
def test_texts_and_messages_in_one_row_take_one_shape(
    completion: object, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    columns = {"prompt": "prompt", "completion": "completion"}

    row = mapped({"prompt": "Is it?", "completion": completion}, Format.PROMPT_COMPLETION, columns, **options)

    assert row == expected


def test_the_system_prompt_comes_first_unless_the_messages_have_one() -> None:
    columns = {"messages": "m", "system": "s"}
    talk = [user("Hi"), assistant("Hello")]

    own = mapped({"m": [system("Mine."), *talk], "s": "Other."}, Format.CONVERSATION, columns)
    added = mapped({"m": talk, "s": "Other."}, Format.CONVERSATION, columns)
    blank = mapped({"m": talk, "s": None}, Format.CONVERSATION, columns)

    assert own["messages"][0] == system("Mine.")
    assert added["messages"][0] == system("Other.")
    assert blank["messages"] == talk


def test_what_follows_the_last_answer_is_left_off() -> None:
    talk = [user("Hi"), assistant("Hello"), user("Bye")]

    assert mapped({"m": talk}, Format.CONVERSATION, {"messages": "m"}) == {"messages": talk[:2]}
    assert mapped({"m": talk}, Format.PROMPT, {"prompt": "m"}) == {"prompt": talk}
    assert mapped({"m": talk[:2]}, Format.PROMPT, {"prompt": "m"}) == {"prompt": talk[:1]}


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        (None, "messages.empty"),
        ([], "messages.empty"),
        ([system(" ")], "messages.empty"),
        ("Hello", "messages.not-a-list"),
        ({"a": 1}, "messages.not-a-list"),
        ([user("Hi")], "messages.no-assistant"),
        ([assistant("Hello")], "messages.no-user"),
        ([user("Hi"), 5], "messages.not-an-object"),
        ([user("Hi"), {"content": "Hello"}], "messages.role"),
        ([user("Hi"), {"role": "king", "content": "Hello"}], "messages.role"),
        ([user("Hi"), {"role": 7, "content": "Hello"}], "messages.role"),
        ([user("Hi"), {"role": ["user"], "content": "Hello"}], "messages.role"),
        ([user("Hi"), assistant("  ")], "messages.empty-content"),
        ([user("Hi"), {"role": "assistant", "content": None}], "messages.empty-content"),
        ([user("Hi"), {"role": "assistant", "content": {"x": 1}}], "messages.not-text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "messages.not-text"),
        ([user("Hi"), {"role": "assistant", "content": "", "tool_calls": [5]}], "messages.tool-call"),
        ([user("Hi"), {"from": "function_call", "value": "not a call"}], "messages.tool-call"),
        ([user("Hi"), {"from": "function_call", "value": '{"name": "f", "arguments": "{"}'}], "messages.tool-call"),
    ],
)
def test_messages_that_cannot_be_read_name_the_fault(messages: object, rule: str) -> None:
    assert problem({"m": messages}, Format.CONVERSATION, {"messages": "m"}).rule == rule


def test_role_tags_can_be_added() -> None:
    row = {"m": [{"who": "x", "role": "patient", "content": "Ow"}, {"role": "Doctor", "content": "Where?"}]}

    found = mapped(row, Format.CONVERSATION, {"messages": "m"}, roles={"patient": "user", "Doctor": "assistant"})

    assert found == {"messages": [user("Ow"), assistant("Where?")]}


def test_messages_are_read_alike_however_plainly_they_are_written() -> None:
    plain = [user("Hi"), assistant("Hello")]
    turned = [{"content": "Hi", "role": "user"}, {"content": "Hello", "role": "assistant"}]

    for talk in (plain, turned):
        row = mapped({"m": talk}, Format.CONVERSATION, {"messages": "m"})
        assert [list(message.items()) for message in row["messages"]] == [list(message.items()) for message in plain]
    swapped = {"assistant": "user", "user": "assistant"}
    answered = [*turned, *turned]
    row = mapped({"m": answered}, Format.CONVERSATION, {"messages": "m"}, roles=swapped)
    assert [message["role"] for message in row["messages"]] == ["assistant", "user", "assistant"]


def test_tool_calls_of_all_dialects_become_one() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    dialects = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
        {"from": "tool_call", "value": '[{"name": "f", "parameters": {"x": 1}}]'},
    ]

    for dialect in dialects:
        row = mapped({"m": [user("Do f"), dialect]}, Format.CONVERSATION, {"messages": "m"})
        assert row["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [call]}


def test_tool_messages_keep_their_name_and_may_be_empty() -> None:
    talk = [user("Do f"), {"role": "tool", "name": "f", "content": "", "tool_call_id": "1"}, assistant("Done.")]

    row = mapped({"m": talk}, Format.CONVERSATION, {"messages": "m"})

    assert row["messages"][1] == {"role": "tool", "content": "", "name": "f"}


def test_tools_that_are_no_list() -> None:
    row = {"m": [user("Hi"), assistant("Hello")], "t": "none"}

    assert problem(row, Format.CONVERSATION, {"messages": "m", "tools": "t"}).rule == "tools.not-a-list"


@pytest.mark.parametrize("history", ["yes", [["only one"]], [["a", "b", "c"]], [5]])
def test_history_that_is_no_list_of_pairs(history: object) -> None:
    row = {"q": "And?", "a": "So.", "h": history}
    columns = {"prompt": "q", "completion": "a", "history": "h"}

    assert problem(row, Format.CONVERSATION, columns).rule == "history.shape"


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"prompt": "Why?", "chosen": "So.", "rejected": ""}, "rejected.empty"),
        ({"prompt": "Why?", "chosen": None, "rejected": "No."}, "chosen.empty"),
        ({"prompt": "Why?", "chosen": [assistant("So.")], "rejected": "No."}, "preference.shapes-differ"),
        (
            {"prompt": "Why?", "chosen": [user("Why?"), assistant("So.")], "rejected": [assistant("No.")]},
            "preference.shapes-differ",
        ),
        (
            {
                "prompt": "Why?",
                "chosen": [user("Why?"), assistant("So.")],
                "rejected": [user("How?"), assistant("No.")],
            },
            "preference.prompts-differ",
        ),
        (
            {"prompt": "Why?", "chosen": [assistant("So."), user("Ah")], "rejected": [assistant("No.")]},
            "messages.no-assistant",
        ),
        ({"prompt": None, "chosen": "So.", "rejected": "No."}, "preference.no-prompt"),
        ({"prompt": None, "chosen": [assistant("So.")], "rejected": [assistant("No.")]}, "preference.no-prompt"),
    ],
)
def test_pairs_that_cannot_be_used(row: dict[str, Any], rule: str) -> None:
    assert problem(row, Format.PREFERENCE, PAIR).rule == rule


def test_a_pair_of_equal_conversations_keeps_its_prompt() -> None:
    talk = [user("Why?"), assistant("So.")]

    row = mapped({"prompt": "Why?", "chosen": talk, "rejected": talk}, Format.PREFERENCE, PAIR)

    assert row == {"prompt": [user("Why?")], "chosen": [assistant("So.")], "rejected": [assistant("So.")]}


@pytest.mark.parametrize(
    ("names", "said", "wins"),
    [
        (("response_a", "response_b"), "A", "first"),
        (("response_a", "response_b"), "model_b", "second"),
        (("response_a", "response_b"), "response_a", "first"),
        (("answer1", "answer2"), 2, "second"),
        (("answer1", "answer2"), "Answer1", "first"),
        (("out_0", "out_1"), 1.0, "second"),
        (("left", "right"), "right", "second"),
        (("response_a", "response_b"), "Both are a tie", "preference.tie"),
        (("response_a", "response_b"), "llama", "preference.winner"),
        (("response_a", "response_b"), "", "preference.winner"),
        (("response_a", "response_b"), None, "winner.empty"),
    ],
)
def test_the_winner_may_be_said_in_many_ways(names: tuple[str, str], said: object, wins: str) -> None:
    row = {"q": "Why?", names[0]: "first", names[1]: "second", "w": said}
    columns = {"prompt": "q", "response_a": names[0], "response_b": names[1], "winner": "w"}

    if "." in wins:
        assert problem(row, Format.PREFERENCE, columns).rule == wins
    else:
        assert mapped(row, Format.PREFERENCE, columns)["chosen"] == [assistant(wins)]


@pytest.mark.parametrize(
    ("value", "options", "label"),
    [
        (True, {}, True),
        (0, {}, False),
        ("1", {}, True),
        (-1, {}, False),
        ("Thumbs up", {}, True),
        ("👎", {}, False),
        ("FALSE", {}, False),
        (4, {"label_threshold": 4}, True),
        ("3.9", {"label_threshold": 4}, False),
        (1, {"label_threshold": 3}, False),
        ("Great", {"labels": {"great": True, "meh": False}}, True),
        (4, {}, None),
        (float("inf"), {"label_threshold": 1}, None),
        ("meh", {}, None),
        ([1], {}, None),
    ],
)
def test_labels(value: object, options: dict[str, Any], label: bool | None) -> None:
    row = {"p": "Why?", "c": "So.", "l": value}
    columns = {"prompt": "p", "completion": "c", "label": "l"}

    if label is None:
        assert problem(row, Format.RATING, columns, **options).rule == "label.unclear"
    else:
        assert mapped(row, Format.RATING, columns, **options)["label"] is label


@pytest.mark.parametrize(
    ("extractor", "text", "answer", "solution"),
    [
        ("none", " 72 ", "72", None),
        ("hash-marks", "a\n#### 72", "72", "a"),
        ("hash-marks", "a #### b\n#### -1,234.5", "-1234.5", "a #### b"),
        ("hash-marks", "#### red, blue", "red, blue", None),
        ("boxed", "So \\boxed{1} or \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}", "So \\boxed{1} or \\boxed{\\frac{1}{2}}."),
    ],
)
def test_answers_are_extracted(extractor: str, text: str, answer: str, solution: str | None) -> None:
    columns = {"prompt": "q", "answer": "a"}

    row = mapped({"q": "What?", "a": text}, Format.PROMPT_ANSWER, columns, answer_extractor=extractor)

    assert row["answer"] == answer
    assert row.get("solution") == solution


@pytest.mark.parametrize(
    ("extractor", "text", "rule"),
    [
        ("hash-marks", "72", "answer.no-marks"),
        ("hash-marks", "72 ####", "answer.no-marks"),
        ("boxed", "72", "answer.no-box"),
        ("boxed", "\\boxed{7", "answer.no-box"),
    ],
)
def test_answers_that_are_not_marked(extractor: str, text: str, rule: str) -> None:
    columns = {"prompt": "q", "answer": "a"}

    assert problem({"q": "What?", "a": text}, Format.PROMPT_ANSWER, columns, answer_extractor=extractor).rule == rule


@pytest.mark.parametrize(
    ("steps", "labels", "rule"),
    [
        (["a", "b"], [True], "stepwise.lengths"),
        ("a", [True], "completions.not-a-list"),
        (["a"], [], "labels.not-a-list"),
        (["a"], [7], "label.unclear"),
        ([["a"]], [1], "value.not-text"),
    ],
)
def test_steps_that_cannot_be_used(steps: object, labels: object, rule: str) -> None:
    row = {"prompt": "Why?", "completions": steps, "labels": labels}
    columns = {"prompt": "prompt", "completions": "completions", "labels": "labels"}

    assert problem(row, Format.STEPWISE, columns).rule == rule


def _step(*tries: tuple[str, int], chosen: int | None = None, written: object = None) -> dict[str, Any]:
    found = [{"text": text, "rating": rating} for text, rating in tries]
    return {"completions": found, "chosen_completion": chosen, "human_completion": written}


@pytest.mark.parametrize(
    ("steps", "labels", "threshold"),
    [
        ([_step(("a", 1), ("b", -1), chosen=0), _step(("c", 0), ("d", 1), chosen=0)], {"a": True, "c": False}, None),
        ([_step(("a", 0), chosen=0)], {"a": True}, 0),
        ([_step(("a", -1), written={"text": "b"}), _step(("c", -1), ("d", 1))], {"b": True, "c": False}, None),
        ([_step(("a", 1), chosen=0), {"completions": None, "chosen_completion": None}], {"a": True}, None),
        ([_step(("a", -1)), _step(("b", 1), chosen=0)], {"a": False}, None),
    ],
    ids=["chosen", "neutral taken as good", "written by a person", "given up", "ended by an error"],
)
def test_steps_follow_the_path_that_was_chosen(
    steps: list[object], labels: dict[str, bool], threshold: float | None
) -> None:
    options = {} if threshold is None else {"label_threshold": threshold}

    row = mapped({"q": "Why?", "s": steps}, Format.STEPWISE, {"prompt": "q", "tries": "s"}, **options)

    assert dict(zip(row["completions"], row["labels"], strict=True)) == labels


@pytest.mark.parametrize(
    ("steps", "rule"),
    [
        ("some text", "tries.shape"),
        ([], "tries.shape"),
        ([_step(("a", 1), chosen=3)], "tries.shape"),
        ([{"completions": [{"text": "a", "rating": None}], "chosen_completion": 0}], "label.unclear"),
    ],
)
def test_tries_that_cannot_be_used(steps: object, rule: str) -> None:
    assert problem({"q": "Why?", "s": steps}, Format.STEPWISE, {"prompt": "q", "tries": "s"}).rule == rule


@pytest.mark.parametrize(
    ("text", "marks", "rule"),
    [
        ("Why? Step 1: a ки", "Why? Step 1: b +", "marks.differ"),
        ("Why? Step 1: a ки", "Why? Step 1: a ?", "marks.differ"),
        ("Why? Step 1: a", "Why? Step 1: a", "marks.none"),
        ("Step 1: a ки", "Step 1: a +", "marks.none"),
        ("Why? So. ки", "Why? So. -", "marks.none"),
    ],
)
def test_marked_steps_that_cannot_be_used(text: str, marks: str, rule: str) -> None:
    found = problem({"a": text, "b": marks}, Format.STEPWISE, {"marked": "a", "marks": "b"})

    assert found.rule == rule


@pytest.mark.parametrize(
    ("weights", "rule"),
    [((0, 0), "messages.all-weights-0"), ((0.5, 1), "messages.weight"), (("no", 1), "messages.weight")],
)
def test_weights_that_leave_nothing_or_are_odd(weights: tuple[object, object], rule: str) -> None:
    talk = [message for weight in weights for message in (user("Hi"), assistant("Ho") | {"weight": weight})]

    assert problem({"messages": talk}, Format.CONVERSATION, {"messages": "messages"}).rule == rule


@pytest.mark.parametrize(("calls", "rule"), [([], "calls.empty"), ([{"arguments": {}}], "messages.tool-call")])
def test_calls_that_cannot_be_used(calls: object, rule: str) -> None:
    row = {"q": "Weather?", "c": calls}

    assert problem(row, Format.CONVERSATION, {"prompt": "q", "calls": "c"}).rule == rule


FACT = {"p": "The tower is in", "s": "The tower", "t": "Rome", "r": ["It is in"], "n": [{"prompt": "x", "target": "y"}]}
_FACT_COLUMNS = {"prompt": "p", "subject": "s", "target": "t", "paraphrases": "r", "neighbours": "n"}


@pytest.mark.parametrize(
    ("change", "rule", "column"),
    [
        ({"s": "A house"}, "edit.subject", "s"),
        ({"s": "the tower"}, "edit.subject", "s"),
        ({"t": " "}, "target.empty", "t"),
        ({"t": None}, "target.empty", "t"),
        ({"b": " Rome"}, "edit.unchanged", "t"),
        ({"r": 3}, "edit.not-a-list", "r"),
        ({"r": [{}]}, "value.not-text", "r"),
        ({"n": ["alone"]}, "edit.neighbour", "n"),
        ({"n": [{"prompt": " ", "target": "y"}]}, "edit.neighbour", "n"),
    ],
)
def test_what_is_no_edit_is_said(change: dict[str, Any], rule: str, column: str) -> None:
    found = problem(FACT | {"b": ""} | change, Format.EDIT, _FACT_COLUMNS | {"before": "b"})
    assert (found.rule, found.column) == (rule, column)
    assert found.advice


def test_a_target_begins_with_one_blank_and_a_prompt_ends_with_none() -> None:
    row = mapped(FACT | {"p": "The tower is in ", "t": "  Rome "}, Format.EDIT, _FACT_COLUMNS)
    assert (row["prompt"], row["target"]) == ("The tower is in", " Rome")
    assert row["neighbours"] == [{"prompt": "x", "target": " y"}]
