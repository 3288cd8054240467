"""What preflight tells of the rows themselves: near twins, longer answers, labels, and any row as it is seen."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from polm_core.context import load_spec
from polm_core.errors import PolmError
from polm_core.formats import Format
from polm_core.near_duplicates import Near, near_duplicates
from polm_core.preflight import example, main, preflight
from polm_core.preflight_report import Example, Report
from tests.polm_core.conftest import MakeRun
from tests.support import tiny

_WORDS = [f"word{number}" for number in range(500)]
_CHINESE = "人人生而自由在尊严和权利上一律平等"


def check(make_run: MakeRun, method: str = "sft", **settings: Any) -> Report:
    return preflight(load_spec(make_run(method, **settings).config))


def warned(report: Report, code: str) -> str:
    """The warning of that code, with its remedy; empty when there is none."""
    return next((f"{entry.message} {entry.remedy}" for entry in report.warnings if entry.code == code), "")


def texts(count: int, *, start: str = "") -> list[dict[str, Any]]:
    draw = random.Random(0)
    return [{"text": start + " ".join(draw.choices(_WORDS, k=60))} for _ in range(count)]


def reworded(row: dict[str, Any], word: int = 30) -> dict[str, Any]:
    words = row["text"].split()
    return {"text": " ".join([*words[:word], "otherwise", *words[word + 1 :]])}


# --- near twins -------------------------------------------------------------------------------------------------------


def test_rows_that_say_almost_the_same_are_counted_and_told(make_run: MakeRun, tmp_path: Path) -> None:
    rows = texts(40)
    held_out = tiny.write_rows(tmp_path / "eval.jsonl", [*texts(8)[3:5], reworded(rows[7])])
    twins = [reworded(row) for row in rows[10:14]]
    report = check(
        make_run,
        "continued-pretraining",
        rows=[*rows, *twins, rows[0]],
        format=Format.TEXT,
        spec={"eval_dataset": {"path": str(held_out), "format": "text"}},
    )
    assert (report.duplicate_rows, report.near_duplicate_rows) == (1, 4)
    assert (report.leaked_rows, report.near_leaked_rows) == (2, 1)
    assert "4 rows say almost the same" in warned(report, "data.near_duplicates")
    assert "1 training rows say almost the same as a held-out one" in warned(report, "data.near_leaked")
    apart = check(make_run, "continued-pretraining", name="apart", rows=rows, format=Format.TEXT)
    assert (apart.near_duplicate_rows, apart.near_leaked_rows) == (0, 0)
    assert not warned(apart, "data.near_duplicates") + warned(apart, "data.near_leaked")


@pytest.mark.parametrize(
    ("row", "other", "near"),
    [
        ({"text": "One Two three"}, {"text": "one two  three"}, 1),
        ({"text": "a b c d e f"}, {"text": "a b c d e g"}, 0),
        ({"text": f"{_CHINESE}们"}, {"text": f"{_CHINESE}爱"}, 1),
        ({"text": ""}, {"text": " "}, 0),
        (
            {"messages": [{"role": "system", "content": "word " * 50}, {"role": "user", "content": "a b c d"}]},
            {"messages": [{"role": "system", "content": "word " * 50}, {"role": "user", "content": "e f g h"}]},
            0,
        ),
    ],
)  # fmt: skip
def test_what_makes_two_rows_near(row: dict[str, Any], other: dict[str, Any], near: int) -> None:
    assert near_duplicates([row, other], []) == Near(near, 0)
    assert near_duplicates([row], [other]) == Near(0, near)


def test_a_template_that_many_rows_share_makes_no_twins() -> None:
    rows = [{"text": f"{'Sort the review into one of two kinds and say why. ' * 9}{row}"} for row in range(50)]
    assert near_duplicates(rows, []) == Near(0, 0)


def test_of_a_large_dataset_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polm_core.near_duplicates.SAMPLE", 50)
    rows = texts(100)
    # Every second row is looked at: of twins that stand side by side, no pair.
    assert near_duplicates([row for one in rows for row in (one, reworded(one))], []).repeated == 0
    assert near_duplicates(rows, [reworded(row) for row in rows[:40]]).leaked == 40


# --- answers and labels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("longer", "count", "is_told"), [(18, 24, True), (17, 24, False), (19, 19, False)])
def test_chosen_answers_that_are_mostly_the_longer_ones_are_told(
    make_run: MakeRun, longer: int, count: int, is_told: bool
) -> None:
    rows = [
        {"prompt": f"{number}?", "chosen": "7" * (6 if number < longer else 2), "rejected": "3" * 4}
        for number in range(count)
    ]
    report = check(make_run, "dpo", rows=rows, format=Format.PREFERENCE, spec={"held_out": 0})
    assert report.pairs is not None
    assert report.pairs.chosen_longer == pytest.approx(longer / count)
    # Each digit is a token, and the end of the turn is one.
    assert report.pairs.rejected_tokens == pytest.approx(5, abs=1)
    assert report.pairs.chosen_tokens - report.pairs.rejected_tokens == pytest.approx(4 * longer / count - 2)
    assert bool(warned(report, "data.length_bias")) == is_told


def _ratings(good: int, bad: int) -> list[dict[str, Any]]:
    labels = [True] * good + [False] * bad
    return [{"prompt": f"{number}?", "completion": "so", "label": label} for number, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("method", "good", "bad", "remedy"),
    [
        ("kto", 38, 2, "Raise bad_weight"),
        ("kto", 2, 38, "Raise good_weight"),
        ("bco", 38, 2, "Add bad ones"),
        ("kto", 36, 4, ""),
    ],
)
def test_labels_of_which_one_is_rare_are_told(make_run: MakeRun, method: str, good: int, bad: int, remedy: str) -> None:
    report = check(make_run, method, rows=_ratings(good, bad), format=Format.RATING, spec={"held_out": 0})
    assert report.good_share == good / 40
    assert remedy in warned(report, "data.label_balance")
    assert bool(warned(report, "data.label_balance")) == bool(remedy)


def test_labels_of_steps_are_counted_by_the_step(make_run: MakeRun) -> None:
    steps = {"completions": ["a", "b", "c", "d"], "labels": [True, True, True, False]}
    rows = [{"prompt": f"{number}?", **steps} for number in range(9)]
    report = check(make_run, "prm", rows=rows, format=Format.STEPWISE, spec={"held_out": 0})
    assert report.good_share == 0.75
    assert report.pairs is None
    assert check(make_run, name="sft", rows=tiny.conversations(20)).good_share is None


# --- any row ----------------------------------------------------------------------------------------------------------


def test_any_row_is_shown_as_the_model_sees_it(make_run: MakeRun, tokenizer: Any) -> None:
    rows = tiny.conversations(20)
    spec = load_spec(make_run("sft", rows=rows, spec={"held_out": 0}).config)
    shown = example(spec, 7)
    assert (shown.row, shown.rows, shown.left_out) == (7, 20, False)
    text = tokenizer.apply_chat_template(rows[7]["messages"], tokenize=False)
    assert "".join(token.text for token in shown.tokens) == text
    assert {token.text for token in shown.tokens if token.special} == {"<|im_start|>", "<|im_end|>"}
    first = preflight(spec).first_example
    assert first is not None
    assert (first.row, first.rows) == (0, 20)


def test_a_row_beside_others_with_turns_is_read_as_turns(make_run: MakeRun) -> None:
    plain = {"prompt": "Who?", "chosen": "We.", "rejected": "Nobody."}
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    turns = {name: [{"role": roles[name], "content": text}] for name, text in plain.items()}
    settings = {"rows": [plain] * 3 + [turns], "format": Format.PREFERENCE, "chat_template": False}
    spec = load_spec(make_run("dpo", spec={"held_out": 0}, **settings).config)
    assert example(spec, 1).tokens == example(spec, 3).tokens


@pytest.mark.parametrize("words", [60, 900])
def test_what_is_cut_is_marked(make_run: MakeRun, words: int) -> None:
    limit = words - 20
    settings = {"rows": [{"text": "7" * words}], "format": Format.TEXT, "packing": False, "max_length": limit}
    shown = example(load_spec(make_run("continued-pretraining", **settings).config), 0).tokens
    kept, cut = [token for token in shown if not token.cut], [token for token in shown if token.cut]
    assert len(kept) + sum(token.omitted for token in shown) == limit
    assert "".join(token.text for token in cut).startswith("7" * 20)
    assert {token.trained for token in kept} == {True}
    assert {token.trained for token in cut} == {False}
    assert bool(sum(token.omitted for token in shown)) == (words > 512)


def test_where_nothing_is_cut_a_long_row_is_said_to_be_left_out(make_run: MakeRun) -> None:
    rows = [{"prompt": "7" * 40, "answer": "1"}, {"prompt": "7", "answer": "1"}]
    settings = {"rows": rows, "format": Format.PROMPT_ANSWER, "max_length": 32, "max_completion_length": 8}
    spec = load_spec(make_run("rloo", num_generations=2, spec={"held_out": 0}, **settings).config)
    assert [example(spec, row).left_out for row in (0, 1)] == [True, False]
    assert not any(token.cut for token in example(spec, 0).tokens)


@pytest.mark.parametrize(
    ("method", "row", "said"),
    [("sft", 20, "There is no row 20"), ("sft", -1, "no row -1"), ("knowledge-edit", 0, "no row but the first")],
)
def test_a_row_that_is_not_there_is_refused(
    make_run: MakeRun, tmp_path: Path, method: str, row: int, said: str
) -> None:
    run_dir = make_run(method, rows=tiny.conversations(20), spec={"held_out": 0})
    with pytest.raises(PolmError, match=said) as caught:
        example(load_spec(run_dir.config), row)
    assert "row" in caught.value.fields
    assert main(run_dir.config, tmp_path / "out.json", Path(str(row))) == 0
    assert said in json.loads((tmp_path / "out.json").read_text())["error"]["message"]


def test_a_row_is_written_by_itself(make_run: MakeRun, tmp_path: Path) -> None:
    assert main(make_run("sft").config, tmp_path / "out.json", Path("2")) == 0
    assert Example.model_validate_json((tmp_path / "out.json").read_text()).row == 2
