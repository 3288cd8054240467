"""One function a reward: what the model wrote, the row's answer and the settings give a number, or None.

The number says how well the text does, from 0 to 1; None says that it cannot be judged. Nothing else goes into it, and
no text makes a function raise or hang.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal

from polm_core.patterns import is_found
from polm_core.rewards import json_schema as schemas
from polm_core.rewards.config import RewardsConfig

Verifier = Callable[[str, str | None, RewardsConfig], float | None]

_THOUGHT_BEGINS, _THOUGHT_ENDS = "<think>", "</think>"
_FENCED = re.compile(r"```\w*\n(.*)\n```", re.DOTALL)
_BULLET = re.compile(r"^[ \t]*[-*] ", re.MULTILINE)
_RUN = 3
# Formulas such as 9^9^9^9 are read at once and then take for ever.
_SECONDS = 2
# The final answer stands at the end; reading formulas takes time that grows with the text.
_READ = 4000


def final_part(completion: str) -> str:
    """What is said after thinking, without blanks around it; nothing where the thoughts never end."""
    _, ended, after = completion.rpartition(_THOUGHT_ENDS)
    if not ended and _THOUGHT_BEGINS in completion:
        return ""
    return after.strip()


def math(completion: str, answer: str | None, config: RewardsConfig) -> float | None:
    """1.0 when the last number or formula equals the answer, 0.0 when it does not or there is none.

    None without an answer, or with one that is no mathematics. A comparison that takes longer than some seconds counts
    as unequal. Runs in the main thread only, where it can be interrupted.
    """
    gold = _mathematics(answer) if answer is not None else []
    if not gold:
        return None
    from math_verify import verify

    return float(verify(gold, _mathematics(final_part(completion)), timeout_seconds=_SECONDS))


@lru_cache(maxsize=4096)
def _mathematics(text: str) -> list[Any]:
    from math_verify import parse

    found: list[Any] = parse(text[-_READ:], parsing_timeout=_SECONDS)
    return found


def final_answer(completion: str, by: Literal["math", "exact"]) -> str | None:
    """What a text says in the end, the same for texts that say the same; None when that is nothing."""
    text = final_part(completion)
    if by == "exact":
        return _composed(text) or None
    found = _mathematics(text)
    return str(found[0]) if found else None


def exact(completion: str, answer: str | None, config: RewardsConfig) -> float | None:
    """1.0 when the text is the answer, blanks around both aside, 0.0 when not; None without an answer."""
    return None if answer is None else float(_composed(final_part(completion)) == _composed(answer.strip()))


def _composed(text: str) -> str:
    """The one spelling of letters that can be written as one character or as two."""
    return unicodedata.normalize("NFC", text)


def regex(completion: str, answer: str | None, config: RewardsConfig) -> float | None:
    """1.0 when the pattern is found anywhere in the completion, 0.0 when not."""
    return float(is_found(config.regex_pattern, completion))


def valid_json(completion: str, answer: str | None, config: RewardsConfig) -> float | None:
    """1.0 when the text, or the code block that it is, is JSON that fits the schema, 0.0 when not."""
    text = final_part(completion)
    block = _FENCED.fullmatch(text)
    try:
        value = json.loads(block.group(1) if block else text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return 0.0
    return float(not config.json_schema or schemas.fits(config.json_schema, value))


def _no_json(name: str) -> None:
    """Python reads NaN and infinities, which JSON does not have."""
    raise ValueError(name)


def think_tags(completion: str, answer: str | None, config: RewardsConfig) -> float | None:
    """1.0 for thoughts between think tags, each once, and an answer after them; 0.0 otherwise."""
    before, _, rest = completion.partition(_THOUGHT_BEGINS)
    thoughts, _, said = rest.partition(_THOUGHT_ENDS)
    once = completion.count(_THOUGHT_BEGINS) == 1 == completion.count(_THOUGHT_ENDS)
    return float(once and not before.strip() and bool(thoughts.strip()) and bool(said.strip()))


def length(completion: str, answer: str | None, config: RewardsConfig) -> float | None:
    """1.0 within the bounds, in characters; falls to 0.0 at an empty text, and at twice the longest."""
    count = len(final_part(completion))
    if count < config.length_min:
        return count / config.length_min
    return max(0.0, 1 - max(0, count - config.length_max) / config.length_max)


def no_repeats(completion: str, answer: str | None, config: RewardsConfig) -> float | None:
    """The share of runs of three words that are said for the first time, 1.0 for all; an empty text gets 0.0."""
    words = completion.casefold().split()
    runs = list(zip(*(words[start:] for start in range(_RUN)), strict=False))
    if not runs:
        return float(bool(words))
    return len(set(runs)) / len(runs)


def instructions(completion: str, answer: str | None, config: RewardsConfig) -> float | None:
    """The share of the instructions that are set which the text keeps; an empty text keeps none."""
    text = final_part(completion)
    kept = list(_kept(text, config))
    return sum(kept) / len(kept) if text else 0.0


def _kept(text: str, config: RewardsConfig) -> Iterator[bool]:
    """For each instruction that is set, whether the text keeps it."""
    words, plain = len(text.split()), text.casefold()
    yield from (word.casefold() in plain for word in config.must_contain)
    yield from (word.casefold() not in plain for word in config.must_not_contain)
    if config.min_words:
        yield words >= config.min_words
    if config.max_words:
        yield words <= config.max_words
    if config.bullet_points:
        yield len(_BULLET.findall(text)) == config.bullet_points
    if config.letter_case != "any":
        yield text == (text.lower() if config.letter_case == "lower" else text.upper())
    if config.no_commas:
        yield "," not in text
    if config.ends_with:
        yield text.endswith(config.ends_with.strip())


VERIFIERS: dict[str, Verifier] = {
    "math": math,
    "exact": exact,
    "regex": regex,
    "valid_json": valid_json,
    "think_tags": think_tags,
    "length": length,
    "no_repeats": no_repeats,
    "instructions": instructions,
}
