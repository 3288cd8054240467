"""Small files of each format, and files with every fault that a person may upload."""

import gzip
import json
from typing import Any

ONE_ROW_OF_10_MB = 10 * 1024**2


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def conversations(count: int = 20) -> bytes:
    return jsonl(
        [
            {
                "messages": [
                    {"role": "user", "content": f"What is {number} + 1?"},
                    {"role": "assistant", "content": f"{number} + 1 = {number + 1}."},
                ]
            }
            for number in range(count)
        ]
    )


def preferences(count: int = 20) -> bytes:
    return jsonl(
        [
            {
                "prompt": f"What is {number} + 1?",
                "chosen": f"{number} + 1 = {number + 1}.",
                "rejected": "Nobody knows.",
            }
            for number in range(count)
        ]
    )


def questions(count: int = 20) -> bytes:
    return jsonl(
        [{"question": f"What is {number} + 1?", "answer": f"One more.\n#### {number + 1}"} for number in range(count)]
    )


def half_a_line_at_1000() -> bytes:
    lines = conversations(1200).splitlines(keepends=True)
    lines[999] = lines[999][:40] + b"\n"
    return b"".join(lines)


def ragged_csv() -> bytes:
    good = [f"What is {number} + 1?,{number + 1}" for number in range(10)]
    bad = [f"What is {number} + 2?,{number + 2},too,many" for number in range(10)]
    return "\n".join(["prompt,completion", *good, *bad]).encode() + b"\n"


def many_columns() -> bytes:
    names = ",".join(f"c{number}" for number in range(100_000))
    return f"{names}\n{names}\n".encode()


def zip_bomb() -> bytes:
    """A gzip that unpacks to 400 MB of one JSON value."""
    return gzip.compress(b'{"text": "' + b"a" * (400 * 1024**2), 1)


def without_rejected() -> bytes:
    return jsonl([{"prompt": f"Say {number}.", "chosen": str(number)} for number in range(20)])


def with_a_large_row() -> bytes:
    return conversations(5) + jsonl([{"messages": [{"role": "user", "content": "x" * ONE_ROW_OF_10_MB}]}])


def latin_1() -> bytes:
    return json.dumps({"text": "Käse, so viel man mag"}, ensure_ascii=False).encode("latin-1") + b"\n"
