"""What a shape is, and what rows of several shapes are made of."""

from dataclasses import dataclass
from typing import Any

from polm_core.formats import Format

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    name: str
    rows: list[Row]
    format: Format
    first: Row


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def system(text: str) -> Row:
    return {"role": "system", "content": text}


def many(make: Any, count: int = 12) -> list[Row]:
    return [make(number) for number in range(count)]


def transcript(n: int, answer: str) -> str:
    return (
        f"\n\nHuman: How many are {n} and 1?\n\nAssistant: Do you mean the sum?\n\nHuman: Yes.\n\nAssistant: {answer}"
    )


HH_PROMPT = [user("How many are 0 and 1?"), assistant("Do you mean the sum?"), user("Yes.")]
