"""The verdict on a file for the command line, and the samples that the studio brings along."""

from pathlib import Path

import pytest

from polm_core.data.check import check_file, describe
from polm_core.data.samples import ON_DOCUMENTS, SAMPLES, write_samples
from polm_core.formats import Format
from tests.polm_core.data.conftest import jsonl

ALPACA = [{"instruction": f"Say {n}", "input": "", "output": f"{n}"} for n in range(20)]


def test_a_file_that_a_method_can_use(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.jsonl"
    path.write_bytes(jsonl([*ALPACA, {"instruction": "Say", "output": ""}]))

    result = check_file(path, [Format.CONVERSATION])

    assert (result["ok"], result["target"]) == (True, Format.CONVERSATION)
    assert describe(result).splitlines()[:5] == [
        "usable: Conversation: used as it is.",
        "format: conversation (confidence 89%): 'instruction' asks and 'output' answers; "
        "1 of 21 rows do not fit ('output' is empty or missing)",
        "mapping: prompt <- instruction, completion <- output, input <- input",
        "rows: 20 of 21 used",
        "  1 x completion.empty",
    ]
    assert 'row 1: {"messages":[{"role":"user","content":"Say 0"},' in describe(result)


def test_a_file_that_a_method_cannot_use(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.jsonl"
    path.write_bytes(jsonl(ALPACA))

    result = check_file(path, [Format.PREFERENCE])

    assert not result["ok"]
    assert "This method needs preference (columns prompt, chosen, rejected)" in describe(result)


def test_a_reading_that_would_serve_is_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.jsonl"
    path.write_bytes(jsonl([row | {"text": "Below is an instruction."} for row in ALPACA]))

    result = check_file(path, [Format.TEXT])

    assert not result["ok"]
    assert result["reason"].endswith("With a mapping it could also be read as text.")


@pytest.mark.parametrize("content", [b"", b"{broken\n", b"\x00\x01\x02\x03" * 100])
def test_a_bad_file_gets_a_verdict_too(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)

    result = check_file(path, [Format.TEXT])

    assert not result["ok"]
    assert result["rows"] == []
    assert describe(result).startswith("not usable: ")


def test_a_missing_file(tmp_path: Path) -> None:
    result = check_file(tmp_path / "gone.jsonl")

    assert "cannot be opened" in result["reason"]


def test_the_samples_are_the_same_every_time_and_what_they_say_they_are(tmp_path: Path) -> None:
    written = write_samples(tmp_path / "a")
    again = write_samples(tmp_path / "b")

    assert set(written) == {*SAMPLES, Format.IMAGE_CONVERSATION}
    for name, path in written.items():
        assert path.read_bytes() == again[name].read_bytes()
        format = Format.PROMPT_ANSWER if name == ON_DOCUMENTS else Format(name)
        report = check_file(path, [format])["report"]
        assert (report["format"], report["rows_used"]) == (format, report["rows_total"])
        # Edits are few on purpose: each costs the model a little of all else. What is written by hand is few too.
        few = {Format.EDIT: 8, Format.PROMPT: 20, Format.DOCUMENTS: 40, ON_DOCUMENTS: 40}
        assert report["rows_total"] >= few.get(name, 300)
        assert report["stats"]["duplicates"] == report["stats"]["equal_pairs"] == 0
        assert path.stat().st_size < 800_000


def test_the_samples_think_and_judge_rightly_about_other_problems(tmp_path: Path) -> None:
    import json

    written = write_samples(tmp_path)
    rows = {
        format: [json.loads(line) for line in written[format].read_text().splitlines()]
        for format in (Format.PROMPT_ANSWER, Format.PROMPT_COMPLETION, Format.STEPWISE)
    }
    asked = {row["prompt"] for row in rows[Format.PROMPT_ANSWER]}
    for row in rows[Format.PROMPT_COMPLETION]:
        thoughts, _, answer = row["completion"][0]["content"].removeprefix("<think>\n").partition("\n</think>\n")
        assert thoughts.endswith(f"= {answer}")
        assert row["prompt"][0]["content"] not in asked
    for row in rows[Format.STEPWISE]:
        *equations, said = (step.rstrip(".") for step in row["completions"])
        assert [_holds(equation) for equation in equations] == row["labels"][:-1]
        assert said.endswith(f" {equations[-1].rpartition(' ')[2]}")
        assert row["labels"][-1] is row["labels"][-2]
        assert row["prompt"] not in asked
    wrong = sum(not all(row["labels"]) for row in rows[Format.STEPWISE])
    assert 0.4 < wrong / len(rows[Format.STEPWISE]) < 0.6


def _holds(equation: str) -> bool:
    left, right = equation.split(" = ")
    first, sign, second = left.split()
    value = {"+": int(first) + int(second), "-": int(first) - int(second), "*": int(first) * int(second)}[sign]
    return value == int(right)


def test_the_answers_of_the_samples_are_right(tmp_path: Path) -> None:
    import json

    path = write_samples(tmp_path)[Format.PROMPT_ANSWER]

    for line in path.read_text().splitlines():
        row = json.loads(line)
        for equation in row["solution"].replace("and ", "").split(", "):
            assert _holds(equation)
        assert row["solution"].endswith(f"= {row['answer']}")
