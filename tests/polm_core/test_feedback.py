"""Methods that make the rows they train on: what is made, that it is made once, and when there is nothing to learn."""

import json
from pathlib import Path
from typing import Any

import pytest

from polm_core import catalogue
from polm_core.context import load_spec
from polm_core.errors import ConfigError
from polm_core.formats import Format
from polm_core.methods.alignment.revising import continued, question_of
from polm_core.preflight import preflight
from polm_core.run import EXIT_FAILED, execute
from polm_core.run_dir import RunDir
from tests.polm_core.conftest import MakeRun, points, samples
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

METHODS = ("rlaif", "constitutional-ai")
LENGTH = {"length": 1, "length_max": 10, "no_repeats": 0}


def feedback_run(make_run: MakeRun, method: str, **settings: Any) -> RunDir:
    defaults = {"format": Format.PROMPT, "eval_steps": 0, "save_steps": 0, "max_steps": 1, "rewards": LENGTH}
    return make_run(method, **{**defaults, **settings})


def made(folder: Path) -> list[dict[str, Any]]:
    """The rows, without the line that says by which settings they were made."""
    return [json.loads(line) for line in (folder / "made.jsonl").read_text().splitlines()][1:]


def error_of(run_dir: RunDir) -> dict[str, Any]:
    assert execute(run_dir.root) == EXIT_FAILED
    result = run_dir.read_result()
    assert result is not None
    assert result.error is not None
    return result.error


def test_the_better_answer_of_a_pair_is_the_one_that_earns_more(make_run: MakeRun) -> None:
    run_dir = feedback_run(make_run, "rlaif", num_generations=3, spec={"held_out": 0})
    assert execute(run_dir.root) == 0
    rows = made(run_dir.root)
    pairs = [row for row in rows if "problem" not in row]
    assert (len(rows), bool(pairs)) == (24, True)
    assert all(row["chosen_reward"] > row["rejected_reward"] for row in pairs)
    assert points(run_dir, "made/kept")[0] == pytest.approx(len(pairs) / 24)
    assert points(run_dir, "rewards/margins").keys() == {1}
    shown = samples(run_dir)
    assert [(sample["group"], sample["place"]) for sample in shown] == [(g, p) for g in range(24) for p in range(3)]
    for group, row in enumerate(rows):
        earned = {sample["completion"]: sample["reward"] for sample in shown if sample["group"] == group}
        if "problem" not in row:
            assert (earned[row["chosen"]], earned[row["rejected"]]) == (max(earned.values()), min(earned.values()))
    last = run_dir.last_checkpoint()
    assert last is not None
    assert made(last) == rows, "the rows come with the model"


def test_a_judge_labels_the_pairs(make_run: MakeRun, tiny_model: Path) -> None:
    spec = {"judge_model": {"path": str(tiny_model), "name": "judge"}}
    run_dir = feedback_run(make_run, "rlaif", rewards={"no_repeats": 0, "judge": 1}, spec=spec)
    assert preflight(load_spec(run_dir.config)).blocking == []
    assert execute(run_dir.root) == 0
    pairs = [row for row in made(run_dir.root) if "problem" not in row]
    assert all(1 >= row["chosen_reward"] > row["rejected_reward"] >= 0 for row in pairs)
    assert points(run_dir, "eval/reward/judge").keys() == {0, 1}


def test_pairs_that_are_too_close_are_left_out(make_run: MakeRun) -> None:
    run_dir = feedback_run(make_run, "rlaif", min_margin=0.3)
    assert execute(run_dir.root) == 0
    margins = [row["chosen_reward"] - row["rejected_reward"] for row in made(run_dir.root) if "problem" not in row]
    assert min(margins) > 0.3


@pytest.mark.parametrize("train_on", ["revisions", "pairs"])
def test_answers_are_criticised_by_a_principle_and_revised(make_run: MakeRun, train_on: str) -> None:
    run_dir = feedback_run(
        make_run, "constitutional-ai", principles="Be kind.\n\nBe brief.", rounds=2, train_on=train_on, keep="better"
    )
    assert execute(run_dir.root) == 0
    rows = made(run_dir.root)
    kept = [row for row in rows if "problem" not in row]
    assert kept
    assert all(row["reward"] > row["first_reward"] for row in kept)
    assert {principle for row in rows for principle in row["principles"]} == {"Be kind.", "Be brief."}
    assert all(len(row["critiques"]) == len(row["principles"]) == 2 for row in kept)
    logged = [sample for sample in samples(run_dir) if "note" in sample]
    first, revision = logged[:2]
    assert (first["note"], first["place"], revision["place"]) == ("First answer", 0, 1)
    assert revision["note"].startswith("Revision\nPrinciple: Be ")
    assert revision["advantage"] == pytest.approx(revision["reward"] - first["reward"])
    assert points(run_dir, "made/reward/revision").keys() == {0}
    assert bool(points(run_dir, "rewards/margins")) == (train_on == "pairs")


@pytest.mark.parametrize("method", METHODS)
def test_no_row_is_made_twice(make_run: MakeRun, method: str) -> None:
    """A run that was cut off in a batch goes on with that batch, and makes what it would have made."""
    spec = {"held_out": 0}
    whole = feedback_run(make_run, method, spec=spec)
    assert execute(whole.root) == 0
    lines = whole.made.read_text().splitlines(keepends=True)
    marked = json.loads(lines[2]) | {"marked": True}
    cut = feedback_run(make_run, method, name="cut", spec=spec)
    # Two batches of four, two rows of the third, and half a line.
    cut.made.write_text("".join([*lines[:2], json.dumps(marked) + "\n", *lines[3:11], lines[11][:20]]))
    assert execute(cut.root) == 0
    assert made(cut.root)[1] == marked
    assert cut.made.read_text().splitlines()[3:] == [line.rstrip("\n") for line in lines[3:]]
    assert {sample["group"] for sample in samples(cut) if "group" in sample} == set(range(8, 24))


@pytest.mark.parametrize("method", METHODS)
def test_rows_come_with_the_checkpoint_and_not_from_other_settings(make_run: MakeRun, method: str) -> None:
    first = feedback_run(make_run, method, save_steps=1, max_steps=2)
    assert execute(first.root) == 0
    resumed = feedback_run(
        make_run, method, name="resumed", save_steps=1, max_steps=2, spec={"resume": str(first.checkpoint(1))}
    )
    assert execute(resumed.root) == 0
    assert made(resumed.root) == made(first.root)
    assert not any("group" in sample for sample in samples(resumed)), "nothing was written anew"
    other = feedback_run(make_run, method, name="other", seed=7)
    other.made.write_text(first.made.read_text())
    assert execute(other.root) == 0
    assert made(other.root) != made(first.root)


def test_answers_that_cannot_be_told_apart_end_the_run_with_advice(make_run: MakeRun) -> None:
    rewards = {"regex": 1, "regex_pattern": "never said", "no_repeats": 0}
    error = error_of(feedback_run(make_run, "rlaif", rewards=rewards))
    assert error["code"] == "data.untrained"
    assert "answers that all earn the same (22)" in error["message"]
    assert "rewards that tell the answers apart" in error["advice"]


def test_revisions_that_are_never_better_end_the_run_with_advice(make_run: MakeRun) -> None:
    rewards = {"regex": 1, "regex_pattern": "never said", "no_repeats": 0}
    error = error_of(feedback_run(make_run, "constitutional-ai", keep="better", rewards=rewards))
    assert error["code"] == "data.untrained"
    assert "keep all revisions" in error["advice"]


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_says_nothing_ends_the_run_with_advice(make_run: MakeRun, silent_model: Path, method: str) -> None:
    run_dir = feedback_run(make_run, method, spec={"model": {"path": str(silent_model)}})
    error = error_of(run_dir)
    assert error["code"] == "data.untrained"
    assert "an empty answer (22)" in error["message"]
    assert "chat template" in error["advice"]


@pytest.fixture(scope="session")
def silent_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that ends every answer before it begins: whatever it reads, it sees the same, and answers the same."""
    import torch
    from transformers import LlamaForCausalLM

    folder = tiny.build_model(tmp_path_factory.mktemp("model") / "silent")
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.fill_(1.0)
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
        model.lm_head.weight[model.config.eos_token_id] = 10.0
    model.save_pretrained(folder)
    return folder


def test_what_does_not_fit_beside_its_critique_is_left_out(make_run: MakeRun) -> None:
    run_dir = feedback_run(make_run, "constitutional-ai", max_completion_length=500)
    report = preflight(load_spec(run_dir.config))
    assert "3 x max_completion_length" in next(e.message for e in report.warnings if e.code == "model.positions")
    error = error_of(run_dir)
    assert "no room" in error["message"]
    assert "max_completion_length" in error["advice"]


@pytest.mark.parametrize("method", METHODS)
def test_prompts_that_are_too_long_stand_in_the_way(make_run: MakeRun, method: str) -> None:
    rows = [{"prompt": "why " * 100}] * 3
    run_dir = feedback_run(make_run, method, rows=rows, max_length=50, spec={"held_out": 0})
    assert [entry.code for entry in preflight(load_spec(run_dir.config)).blocking] == ["data.untrained"]
    assert error_of(run_dir)["code"] == "data.untrained"


@pytest.mark.parametrize("method", METHODS)
def test_one_process_writes_the_rows(method: str) -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get(method).parse({"processes": 2})
    assert "must be 1" in caught.value.fields["config.processes"][0]


def test_a_constitution_has_principles() -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get("constitutional-ai").parse({"principles": " \n"})
    assert list(caught.value.fields) == ["config.principles"]


def test_what_is_said_after_a_prompt_is_turns_or_text() -> None:
    said = ["4", "Criticise it."]
    assert continued("2 + 2", said) == "2 + 2\n\n4\n\nCriticise it.\n\n"
    assert question_of([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "2 + 2"}]) == "2 + 2"
    turns = continued([{"role": "user", "content": "2 + 2"}], said)
    assert [turn["role"] for turn in turns if isinstance(turn, dict)] == ["user", "assistant", "user"]
