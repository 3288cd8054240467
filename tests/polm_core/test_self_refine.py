"""Self-refine: versions of an answer, what is kept of them, and what is said when none is worth it."""

import json
from typing import Any

import pytest

from polm_core.context import load_spec
from polm_core.formats import Format
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import RunDir
from tests.polm_core.conftest import MakeRun, points, samples
from tests.polm_core.test_feedback import error_of, made

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]


def refining_run(make_run: MakeRun, **settings: Any) -> RunDir:
    defaults = {"format": Format.PROMPT_ANSWER, "eval_steps": 0, "save_steps": 0, "max_steps": 1, "min_reward": 0.25}
    return make_run("self-refine", **{**defaults, **settings})


@pytest.mark.parametrize("keep", ["best", "improved"])
def test_the_version_that_earns_most_is_learned_from(make_run: MakeRun, keep: str) -> None:
    run_dir = refining_run(make_run, rounds=2, keep=keep, spec={"held_out": 0})
    assert execute(run_dir.root) == 0
    rows, shown = made(run_dir.root), samples(run_dir)
    assert len(rows) == 24
    for group, row in enumerate(rows):
        assert (len(row["versions"]), len(row["critiques"])) == (3, 2)
        said = [(one["completion"], one["reward"]) for one in shown if one["group"] == group]
        assert said == list(zip(row["versions"], row["rewards"], strict=True))
        best = max(row["rewards"])
        wanted = best >= 0.25 if keep == "best" else best > row["rewards"][0]
        assert ("kept" in row, "problem" in row) == (wanted, not wanted)
        if wanted:
            assert row["kept"] == row["versions"][row["rewards"].index(best)]
    kept = [row for row in rows if "kept" in row]
    assert points(run_dir, "made/kept")[0] == pytest.approx(len(kept) / 24)
    improved = sum(max(row["rewards"][1:]) > row["rewards"][0] for row in rows)
    assert points(run_dir, "made/improved")[0] == pytest.approx(improved / 24)
    assert points(run_dir, "system/generated_tokens_per_second")[0] > 0
    assert shown[1]["note"] == f"Rewritten\nCritique: {rows[0]['critiques'][0]}"


def test_no_version_is_written_twice(make_run: MakeRun) -> None:
    """A run that was cut off in a batch goes on with that batch, and makes what it would have made."""
    settings = {"spec": {"held_out": 0}, "generation_batch_size": 4}
    whole = refining_run(make_run, **settings)
    assert execute(whole.root) == 0
    lines = whole.made.read_text().splitlines(keepends=True)
    cut = refining_run(make_run, name="cut", **settings)
    marked = json.loads(lines[2]) | {"marked": True}
    cut.made.write_text("".join([*lines[:2], json.dumps(marked) + "\n", *lines[3:7], lines[7][:20]]))
    assert execute(cut.root) == 0
    assert made(cut.root)[1] == marked
    assert cut.made.read_text().splitlines()[3:] == [line.rstrip("\n") for line in lines[3:]]


@pytest.mark.parametrize(
    ("keep", "said", "advice"),
    [("best", "no right answer (22)", "min_reward"), ("improved", "no later version that earns more", "keep to best")],
)
def test_answers_that_are_never_right_or_better_end_the_run_with_advice(
    make_run: MakeRun, keep: str, said: str, advice: str
) -> None:
    run_dir = refining_run(make_run, keep=keep, rewards={"math": 0, "regex": 1, "regex_pattern": "never said"})
    error = error_of(run_dir)
    assert error["code"] == "data.untrained"
    assert said in error["message"]
    assert advice in error["advice"]
    assert len(made(run_dir.root)) == 22


def test_a_critique_that_does_not_fit_takes_no_answer_away(make_run: MakeRun) -> None:
    run_dir = refining_run(make_run, critique_request="why " * 500, rounds=2)
    assert execute(run_dir.root) == 0
    rows = made(run_dir.root)
    assert {(len(row["versions"]), len(row["critiques"])) for row in rows} == {(1, 0)}
    assert any("kept" in row for row in rows)
    assert points(run_dir, "made/kept")


def test_prompts_without_answers_are_refused_where_rewards_need_them(make_run: MakeRun) -> None:
    run_dir = refining_run(make_run, format=Format.PROMPT, rewards={"math": 1})
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert "compares with the row's answer" in entry.message
    judged = refining_run(make_run, name="judged", format=Format.PROMPT, rewards={"math": 0, "no_repeats": 1})
    assert preflight(load_spec(judged.config)).blocking == []
