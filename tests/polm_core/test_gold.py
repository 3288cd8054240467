"""GOLD: what two tokenizers make of a text is brought together, and a teacher of another family is learned from."""

import math
from pathlib import Path
from typing import Any

import pytest

from polm_core.context import ModelSpec, load_spec
from polm_core.formats import Format
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.training.loading import load_tokenizer
from polm_core.training.rows import Split
from tests.polm_core.conftest import MakeRun, points
from tests.polm_core.test_distill import error_of, trained_on_sums
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another family, which has learned nothing."""
    return tiny.build_model(tmp_path_factory.mktemp("other"), seed=3, tokenizer=tiny.build_other_tokenizer())


@pytest.fixture(scope="session")
def other_teacher(tmp_path_factory: pytest.TempPathFactory, other_model: Path) -> Path:
    """What that becomes by training on sums."""
    return trained_on_sums(tmp_path_factory.mktemp("other-teacher"), other_model)


def _taught_by(teacher: Path) -> dict[str, Any]:
    return {"teacher_model": {"path": str(teacher), "name": "other"}}


@pytest.mark.parametrize(
    ("most", "settings"), [(0.9, {}), (0.97, {"shared_tokens": False, "imitation": 1.0, "on_policy": 0.0})]
)
def test_the_model_comes_nearer_to_a_teacher_of_another_family(
    make_run: MakeRun, other_teacher: Path, most: float, settings: dict[str, Any]
) -> None:
    run_dir = make_run(
        "gold",
        max_steps=20,
        learning_rate=5e-3,
        max_completion_length=16,
        eval_steps=0,
        save_steps=0,
        spec=_taught_by(other_teacher),
        **settings,
    )
    assert preflight(load_spec(run_dir.config)).blocking == []
    assert execute(run_dir.root) == 0
    distance, loss = points(run_dir, "eval/teacher_uld"), points(run_dir, "eval/loss")
    assert distance.keys() == loss.keys() == {0, 20}
    assert 0 < distance[20] < most * distance[0]
    assert loss[20] < loss[0]
    assert all(math.isfinite(value) for value in points(run_dir, "teacher_uld").values())


@pytest.mark.parametrize("method", ["distill", "minillm"])
def test_it_is_what_white_box_methods_advise_where_tokens_differ(
    make_run: MakeRun, other_model: Path, method: str
) -> None:
    run_dir = make_run(method, spec=_taught_by(other_model))
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    error = error_of(run_dir)
    assert (entry.code, entry.remedy) == (error["code"], error["advice"])
    assert error["code"] == "model.tokenizer"
    assert "gold" in error["advice"]


def test_a_teacher_that_scores_teaches_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    judge = tiny.build_step_judge(tmp_path / "judge")
    run_dir = make_run("gold", spec=_taught_by(judge))
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert entry.code == "model.reward"
    assert error_of(run_dir)["code"] == "model.reward"


ANSWERS = ["12 + 30 = 42.", "Ça: naïve 你好 🙂", "", "a\nb"]


@pytest.mark.parametrize("cut", [False, True])
def test_both_read_the_same_text_each_in_its_own_turns(tiny_model: Path, other_model: Path, cut: bool) -> None:
    import torch

    from polm_core.methods.fine_tuning.sft import tokenised
    from polm_core.training.cross_tokenizer import Translator

    student, teacher = (load_tokenizer(ModelSpec(path=path)) for path in (tiny_model, other_model))
    rows = [{"prompt": [{"role": "user", "content": "Say it."}], "completion": text} for text in ANSWERS]
    made = tokenised(student, rows, Format.PROMPT_COMPLETION, "answers", limit=512)
    ends = [student.eos_token_id]
    for row, text in zip(made, ANSWERS, strict=True):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        # What the template puts behind the end of a turn is no part of the answer.
        length = int((labels[0] != -100).nonzero()[-1]) + (0 if cut else 1)
        ids, labels = ids[:, :length], labels[:, :length]
        if cut and not text:
            continue
        translator = Translator(student, teacher, rows, 512, ends)
        own, theirs = translator.both(ids, torch.ones_like(ids), labels)
        assert own.tokens.tolist() == ids.tolist()
        read = teacher.decode(theirs.tokens[0], clean_up_tokenization_spaces=False)
        assert read == f"[user] Say it.</s>[assistant] {text}" + ("" if cut else "</s>")
        for side, tokenizer in ((own, student), (theirs, teacher)):
            on = side.labels[0] != -100
            said, places = side.tokens[0][on], side.ends[0, on, 1].tolist()
            assert tokenizer.decode(said, skip_special_tokens=True) == text
            assert places == sorted(places)
            assert places[-1] == len(text)


def test_the_last_answer_of_a_row_is_learned_unless_its_weight_is_0() -> None:
    from polm_core.methods.efficiency.gold import last_answers

    first, second = tiny.conversations(2)[1]["messages"][:2], tiny.conversations(2)[1]["messages"][2:]
    muted = [*first, second[0], {**second[1], "weight": 0}]
    split = last_answers(Split([{"messages": first + second}, {"messages": muted}], [], Format.CONVERSATION))
    assert split.train == [{"prompt": [*first, second[0]], "completion": second[1]["content"]}]
    plain = [{"prompt": "1 + 1 =", "completion": "2"}]
    assert last_answers(Split(plain, [], Format.PROMPT_COMPLETION)).train == plain
