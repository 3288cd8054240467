"""Methods that learn from a teacher: what they compare, what the teacher writes, and who cannot be one."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from polm_core import catalogue
from polm_core.context import load_spec
from polm_core.errors import ConfigError
from polm_core.formats import Format
from polm_core.preflight import preflight
from polm_core.run import EXIT_FAILED, execute
from polm_core.run_dir import RunDir
from tests.polm_core.conftest import MakeRun, points, samples
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

WHITE_BOX = ("distill", "minillm")
TAUGHT = (*WHITE_BOX, "seq-kd")


def taught_run(make_run: MakeRun, method: str, **settings: Any) -> RunDir:
    return make_run(method, **{"format": catalogue.get(method).formats[0], "save_steps": 0, **settings})


def error_of(run_dir: RunDir) -> dict[str, Any]:
    assert execute(run_dir.root) == EXIT_FAILED
    result = run_dir.read_result()
    assert result is not None
    assert result.error is not None
    return result.error


def refused(run_dir: RunDir) -> dict[str, Any]:
    """The error of the run, which the preflight tells too."""
    found = preflight(load_spec(run_dir.config)).blocking
    error = error_of(run_dir)
    assert [(entry.code, entry.message, entry.remedy) for entry in found] == [
        (error["code"], error["message"], error["advice"])
    ]
    return error


@pytest.fixture(scope="session")
def trained_teacher(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """What the tiny model becomes by training on sums: its answers say something, and end."""
    return trained_on_sums(tmp_path_factory.mktemp("teacher"), tiny_model)


def trained_on_sums(root: Path, model: Path) -> Path:
    run_dir = RunDir(root / "run")
    run_dir.create()
    data = tiny.write_rows(root / "rows.jsonl", tiny.conversations(64))
    spec = {
        "method": "sft",
        "model": {"path": str(model)},
        "dataset": {"path": str(data), "format": "conversation"},
        "held_out": 0,
        "config": {"max_steps": 60, "batch_size": 8, "learning_rate": 5e-3, "generation": {"samples": 0}},
    }
    run_dir.config.write_text(yaml.safe_dump(spec))
    assert execute(run_dir.root) == 0
    last = run_dir.last_checkpoint()
    assert last is not None
    return last


@pytest.mark.parametrize("method", TAUGHT)
def test_the_model_comes_nearer_to_its_teacher(make_run: MakeRun, trained_teacher: Path, method: str) -> None:
    run_dir = taught_run(
        make_run,
        method,
        max_steps=30,
        learning_rate=3e-3,
        max_completion_length=24,
        eval_steps=0,
        spec={"teacher_model": {"path": str(trained_teacher), "name": "teacher"}},
    )
    assert preflight(load_spec(run_dir.config)).blocking == []
    assert execute(run_dir.root) == 0
    distance = points(run_dir, "eval/teacher_kl")
    assert distance.keys() == {0, 30}
    assert 0 < distance[30] < 0.9 * distance[0]
    if method != "minillm":  # it seeks what the teacher likes most, not all that rows may say
        loss = points(run_dir, "eval/loss")
        assert loss[30] < loss[0]


def test_a_share_of_the_steps_learns_from_answers_of_the_model(make_run: MakeRun) -> None:
    settings = {"max_steps": 6, "eval_steps": 0}
    never = taught_run(make_run, "distill", name="never", on_policy=0, **settings)
    always = taught_run(make_run, "distill", name="always", on_policy=1, **settings)
    for run_dir in (never, always):
        assert execute(run_dir.root) == 0
    assert points(never, "completions/mean_length") == {}
    lengths = points(always, "completions/mean_length")
    assert lengths.keys() == {1, 2, 3, 4, 5, 6}
    assert all(1 <= length <= 8 for length in lengths.values())
    assert all(speed > 0 for speed in points(always, "system/generated_tokens_per_second").values())
    assert all(0 <= share <= 1 for share in points(always, "completions/clipped_ratio").values())


def test_the_answer_that_is_replaced_is_the_last_of_a_row() -> None:
    import torch

    from polm_core.training.distilling import _until_end, last_answer

    assert last_answer(torch.tensor([0, 0, 1, 1, 0, 1, 1, 0]).bool()) == 5
    assert last_answer(torch.tensor([0, 1, 1]).bool()) == 1
    assert last_answer(torch.tensor([1, 0, 1]).bool()) == 2
    assert last_answer(torch.tensor([1, 1, 1]).bool()) == 1, "something has to be read"
    assert _until_end([4, 5, 2, 2, 2], [2]) == [4, 5, 2]
    assert _until_end([4, 5], [2]) == [4, 5]


def test_the_reverse_divergence_rewards_what_the_teacher_goes_on_to_find_likely() -> None:
    """By hand: two lines of three and one token, two tokens to choose from."""
    import torch

    from polm_core.methods.efficiency.minillm import reverse_divergence
    from polm_core.training.distilling import Read

    student = torch.log(torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.8, 0.2]], dtype=torch.float64))
    teacher = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.8, 0.2]], dtype=torch.float64))
    trained = torch.tensor([[False, True, True, True], [True, False, False, False]])
    read = Read(student.requires_grad_(), teacher, torch.tensor([0, 0, 1, 0]), trained)
    later = [math.log(0.9 / 0.5), math.log(0.8 / 0.5)]
    exact = (
        0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1) + 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    ) / 4
    for mean, first in ((False, sum(later)), (True, sum(later) / 2)):
        wanted = exact - math.log(0.5) * (first + later[1]) / 4
        assert reverse_divergence(read, mean=mean).item() == pytest.approx(wanted)


def made(folder: Path) -> list[dict[str, Any]]:
    """The rows, without the line that says by which settings they were made."""
    return [json.loads(line) for line in (folder / "made.jsonl").read_text().splitlines()][1:]


def test_what_the_teacher_writes_is_learned_and_measured_by(make_run: MakeRun, tiny_teacher: Path) -> None:
    run_dir = taught_run(make_run, "seq-kd", max_steps=2, save_steps=2)
    assert execute(run_dir.root) == 0
    rows = made(run_dir.root)
    kept = [row for row in rows[2:] if "problem" not in row]
    assert len(rows) == 24, "two of them held out"
    assert points(run_dir, "made/kept") == {0: pytest.approx(len(kept) / 22)}
    assert points(run_dir, "system/generated_tokens_per_second")[0] > 0
    shown = [sample for sample in samples(run_dir) if sample.get("note") == "The teacher's answer"]
    assert [sample["completion"] for sample in shown] == [row["completion"] for row in rows]
    last = run_dir.last_checkpoint()
    assert last is not None
    assert made(last) == rows, "the rows come with the model"
    by_itself = taught_run(
        make_run, "seq-kd", name="other", spec={"teacher_model": {"path": str(tiny_teacher)}}, seed=7
    )
    assert execute(by_itself.root) == 0
    assert made(by_itself.root) != rows


def test_no_answer_is_written_twice(make_run: MakeRun) -> None:
    whole = taught_run(make_run, "seq-kd", max_steps=1)
    assert execute(whole.root) == 0
    lines = whole.made.read_text().splitlines(keepends=True)
    cut = taught_run(make_run, "seq-kd", name="cut", max_steps=1)
    # Two batches of four, two rows of the third, and half a line.
    cut.made.write_text("".join([*lines[:11], lines[11][:20]]))
    assert execute(cut.root) == 0
    assert cut.made.read_text().splitlines() == [line.rstrip("\n") for line in lines]
    assert {sample["group"] for sample in samples(cut) if "group" in sample} == set(range(8, 24))


def test_answers_that_are_cut_off_are_left_out(make_run: MakeRun) -> None:
    error = error_of(taught_run(make_run, "seq-kd", max_completion_length=1, skip_cut_answers=True))
    assert error["code"] == "data.untrained"
    assert "an answer that was cut off" in error["message"]
    assert "max_completion_length" in error["advice"]


# --- who cannot be a teacher ------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def foreign_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer has one token more."""
    folder = tiny.build_model(tmp_path_factory.mktemp("model") / "foreign", seed=2)
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|other|>"])
    tokenizer.save_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", WHITE_BOX)
def test_a_teacher_with_another_tokenizer_is_refused_with_the_remedy(
    make_run: MakeRun, foreign_teacher: Path, method: str
) -> None:
    spec = {"teacher_model": {"path": str(foreign_teacher), "name": "foreign"}}
    error = refused(taught_run(make_run, method, spec=spec))
    assert error["code"] == "model.tokenizer"
    assert "The teacher foreign has another tokenizer than tiny" in error["message"]
    assert "seq-kd" in error["advice"]


def test_it_may_still_write_answers(make_run: MakeRun, foreign_teacher: Path) -> None:
    spec = {"teacher_model": {"path": str(foreign_teacher), "name": "foreign"}}
    run_dir = taught_run(make_run, "seq-kd", spec=spec, max_steps=2)
    assert preflight(load_spec(run_dir.config)).blocking == []
    assert execute(run_dir.root) == 0
    assert points(run_dir, "eval/loss").keys() == {0, 2}
    assert points(run_dir, "eval/teacher_kl") == {}, "their tokens cannot be compared"


@pytest.mark.parametrize("method", TAUGHT)
def test_a_run_without_a_teacher_is_refused(make_run: MakeRun, method: str) -> None:
    error = refused(taught_run(make_run, method, spec={"teacher_model": None}))
    assert error["code"] == "config.invalid"
    assert error["fields"] == {"teacher_model": ["must name a teacher model, another than the one that is trained"]}
    assert "as teacher_model" in error["advice"]


@pytest.mark.parametrize("method", TAUGHT)
def test_a_model_cannot_be_its_own_teacher(make_run: MakeRun, tiny_model: Path, method: str) -> None:
    error = refused(taught_run(make_run, method, spec={"teacher_model": {"path": str(tiny_model)}}))
    assert error["fields"] == {"teacher_model": ["must name a teacher model, another than the one that is trained"]}
    assert "nothing from" in error["message"]


def test_a_teacher_that_is_gone_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    error = refused(taught_run(make_run, "distill", spec={"teacher_model": {"path": str(tmp_path / "gone")}}))
    assert error["code"] == "model.missing"


def test_one_process_writes_the_teachers_answers() -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get("seq-kd").parse({"processes": 2})
    assert "must be 1" in caught.value.fields["config.processes"][0]


def test_the_estimate_counts_the_teacher(make_run: MakeRun) -> None:
    plain = preflight(load_spec(make_run("sft", max_steps=1000).config))
    taught = preflight(load_spec(taught_run(make_run, "distill", name="taught", on_policy=0, max_steps=1000).config))
    assert taught.memory_bytes > plain.memory_bytes
    assert taught.seconds > plain.seconds


def test_prompts_that_are_too_long_stand_in_the_way(make_run: MakeRun) -> None:
    rows = [{"prompt": "why " * 100}] * 3
    run_dir = make_run("seq-kd", format=Format.PROMPT, rows=rows, max_length=50, spec={"held_out": 0})
    assert [entry.code for entry in preflight(load_spec(run_dir.config)).blocking] == ["data.untrained"]
    assert error_of(run_dir)["code"] == "data.untrained"
