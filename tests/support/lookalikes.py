"""Files as they are found in the wild, made up here."""

import json
import random

_THINGS = ("apples", "pears", "books", "stones", "cups", "lamps", "boats", "keys")


def alpaca(rows: int, seed: int = 0) -> bytes:
    """An Alpaca-style JSON array: instruction, input, output."""
    rng = random.Random(seed)
    found = []
    for _ in range(rows):
        count, more, thing = rng.randint(2, 60), rng.randint(2, 60), rng.choice(_THINGS)
        found.append(
            {
                "instruction": f"Add the two numbers of {thing}.",
                "input": f"{count} {thing} and {more} {thing}",
                "output": f"Together they are {count + more} {thing}.",
            }
        )
    return json.dumps(found).encode()


def sharegpt_preference(rows: int, seed: int = 0) -> bytes:
    """A preference file in ShareGPT's manner: conversations with from/value, chosen and rejected turns; JSON Lines."""
    rng = random.Random(seed)
    lines = []
    for _ in range(rows):
        count, more, thing = rng.randint(2, 60), rng.randint(2, 60), rng.choice(_THINGS)
        question = f"I have {count} {thing} and get {more} more. How many do I have?"
        row = {
            "conversations": [{"from": "human", "value": question}],
            "chosen": {"from": "gpt", "value": f"You have {count + more} {thing}."},
            "rejected": {"from": "gpt", "value": f"No idea, count your {thing} yourself."},
        }
        lines.append(json.dumps(row))
    return ("\n".join(lines) + "\n").encode()
