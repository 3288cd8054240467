"""The query language's syntax: what is read, and how what cannot be read is told."""

import random
from datetime import timedelta

import pytest

from webapp.runs.query.syntax import MAX_CONDITIONS, MAX_DEPTH, MAX_LENGTH, QueryError, conjuncts, parse
from webapp.runs.query.tree import (
    Age,
    All,
    AnyOf,
    Comparison,
    Node,
    Not,
    OfConfig,
    OfMetric,
    OfRun,
    Period,
    Text,
    Word,
)

METHOD = Comparison(OfRun("method"), ":", (Text("dpo"),))
BETA = Comparison(OfConfig(("beta",)), ">=", (0.1,))
LOSS = Comparison(OfMetric("loss", "min"), "<", (0.4,))
A, B, C = Word("a"), Word("b"), Word("c")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", None),
        ("  ", None),
        ("a", A),
        ("a b", All((A, B))),
        ("a and b", All((A, B))),
        ("a or b c", AnyOf((A, All((B, C))))),
        ("(a or b) c", All((AnyOf((A, B)), C))),
        ("not a b", All((Not(A), B))),
        ("NOT (a Or b)", Not(AnyOf((A, B)))),
        ("not not a", Not(Not(A))),
        ("method:dpo and config.beta>=0.1 and loss.min<0.4", All((METHOD, BETA, LOSS))),
        ("Method:dpo", METHOD),
        ("config.beta  >= 0.1", BETA),
        ("method:dpo,kto", Comparison(OfRun("method"), ":", (Text("dpo"), Text("kto")))),
        ('tag:"two words",b', Comparison(OfRun("tag"), ":", (Text("two words", quoted=True), Text("b")))),
        ('name="say \\"hi\\""', Comparison(OfRun("name"), "=", (Text('say "hi"', quoted=True),))),
        ("config.adapter.type!=lora", Comparison(OfConfig(("adapter", "type")), "!=", (Text("lora"),))),
        ("eval/loss>-1e-3", Comparison(OfMetric("eval/loss"), ">", (-0.001,))),
        ('"my loss".max<1', Comparison(OfMetric("my loss", "max"), "<", (1.0,))),
        ('"loss.min"<1', Comparison(OfMetric("loss.min"), "<", (1.0,))),
        ("loss.last=0", Comparison(OfMetric("loss"), "=", (0.0,))),
        ("created<7d", Comparison(OfRun("created"), "<", (Age(timedelta(days=7)),))),
        ("finished>1.5h", Comparison(OfRun("finished"), ">", (Age(timedelta(minutes=90)),))),
        ("step>=10", Comparison(OfRun("step"), ">=", (10.0,))),
        # What people have in their names is no condition.
        ("lr=1e-4", Word("lr=1e-4")),
        ("12:30", Word("12:30")),
        ("type:x", Word("type:x")),
        ('"or"', Word("or")),
        ("order", Word("order")),
    ],
)
def test_a_query_is_read(text: str, tree: Node | None) -> None:
    assert parse(text) == tree


def test_a_day_and_a_minute_are_periods() -> None:
    for text, length in (
        ("created:2026-01-31", timedelta(days=1)),
        ('created="2026-01-31 12:30"', timedelta(minutes=1)),
    ):
        node = parse(text)
        assert isinstance(node, Comparison)
        period = node.values[0]
        assert isinstance(period, Period)
        assert period.end - period.start == length


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method:dpo config.beta>=", "config.beta>=: a number was expected after >=, at character 24"),
        ("loss<low", "loss<: a number was expected after <, at character 6"),
        ("loss<1e999", "loss<: a number was expected after <, at character 6"),
        ("step:x", "step:: a number was expected after :, at character 6"),
        ("<3", "<: the name of a metric was expected before <, at character 1"),
        ("a or", "or: a condition was expected after or, at character 4"),
        ("or a", "or: a condition was expected before or, at character 1"),
        ("a and and b", "and: a condition was expected before and, at character 7"),
        ("a ()", "(: a condition was expected after (, at character 4"),
        ("(a", "(: a ) was expected to close it, at character 1"),
        ("a)", "): there is no ( that it closes, at character 2"),
        ('a "b', '": a second " was expected to close the text, at character 3'),
        ("method:", "method:: a value was expected after :, at character 7"),
        ("method:dpo,", "method:dpo,: a value was expected after ,, at character 11"),
        ("method<3", "method<: text is compared with :, = or !=, not with <, at character 7"),
        ("status:lost", "status:lost: there is no such state; there are queued"),
        ("tags:x", "tags: there is no such field; did you mean tag?"),
        ("config.>3", "config.: the name of a setting was expected after config., at character 1"),
        ("created>soon", "created>: a date such as 2026-01-31 or an age such as 7d"),
        ("created>2026-02-30", "created>: a date such as"),
        ("created>9999-12-31", "created>: a date such as"),
        ("created>999999w", "created>: a date such as"),
        ("created:7d", "created:7d: an age is compared with < or >, not with :, at character 9"),
        ("a\0b", "NUL cannot be searched for: take it out, at character 2"),
        ("a \ud800", "a character that cannot be printed cannot be searched for"),
        ("x" * (MAX_LENGTH + 1), "a query has at most 1,000 characters"),
        ("a " * (MAX_CONDITIONS + 1), f"a query has at most {MAX_CONDITIONS} conditions"),
        ("(" * 400 + "a", f"conditions can be nested {MAX_DEPTH} deep, not deeper"),
        ("not " * 200 + "a", f"conditions can be nested {MAX_DEPTH} deep, not deeper"),
        ("tag:" + "a," * 60 + "a", "tag:: at most 50 values can be given"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text: str, said: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse(text)
    error = refused.value
    assert error.message.startswith(said)
    assert error.fields == {"q": [error.message]}
    assert 0 <= error.start < len(text)
    assert error.message.endswith(f"at character {error.start + 1}")


PIECES = [
    *"():=<>!,.\"\\ \t'-+/@%;*0",
    *("and", "or", "not", " and ", "method:", "config.", "config.beta", "loss.min", "created", "7d", "2026-01-31"),
    *("status:failed", "tag:", "1e5", "nan", "inf", "é", "٣", "\U0001d518", "\0", "\ud800"),
    *("--", "/*", "' OR 1=1", "\u2028"),
]


def test_whatever_is_typed_is_read_or_refused_with_a_place() -> None:
    dice = random.Random(7)
    read = 0
    for _ in range(20_000):
        text = "".join(dice.choice(PIECES) for _ in range(dice.randrange(1, 14)))
        try:
            parts = conjuncts(text)
        except QueryError as error:
            assert 0 <= error.start < len(text)  # noqa: PT017 (either is right)
        else:
            read += 1
            # Parts of what can be read can be read themselves, and so can what is left without one.
            for said, rest in parts:
                assert parse(said) is not None
                parse(rest)
    assert 2_000 < read < 18_000


def test_conditions_are_taken_out_as_they_were_typed() -> None:
    assert conjuncts('beta and (a OR b)  tag:"x y"') == [
        ("beta", '(a OR b) and tag:"x y"'),
        ("(a OR b)", 'beta and tag:"x y"'),
        ('tag:"x y"', "beta and (a OR b)"),
    ]
    assert conjuncts("a or b") == [("a or b", "")]
