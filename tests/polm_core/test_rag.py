"""Answering from documents: what is found, what is asked, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from polm_core.formats import Format
from polm_core.methods.integration.rag import is_right
from polm_core.run import execute
from polm_core.run_dir import Outcome, RunDir
from tests.polm_core.conftest import MakeRun, points, samples
from tests.support import tiny

TOWN: list[dict[str, Any]] = [
    {"title": "Ferry", "text": "The ferry to Karst is called Blue Magda."},
    {"title": "Mayor", "text": "The mayor of the town is Teodor Lamm."},
]
QUESTIONS = [
    {"prompt": "What is the ferry to Karst called?", "answer": "Blue Magda"},
    {"prompt": "Who is the mayor of the town?", "answer": "Teodor Lamm"},
]


@pytest.fixture
def documents(tmp_path: Path) -> dict[str, Any]:
    return {"path": str(tiny.write_rows(tmp_path / "town.jsonl", TOWN)), "format": "documents"}


def made(run_dir: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run_dir.made.read_text().splitlines()[1:]]


def failure(run_dir: RunDir) -> dict[str, Any]:
    assert execute(run_dir.root) != 0
    result = run_dir.read_result()
    assert result is not None
    assert result.error is not None
    return result.error


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_the_passage_that_holds_the_answer_is_found_and_both_answers_are_kept(
    make_run: MakeRun, documents: dict[str, Any]
) -> None:
    spec = {"documents": documents, "held_out": 0}
    run_dir = make_run("rag", rows=QUESTIONS, format=Format.PROMPT_ANSWER, spec=spec, top_k=2, min_score=0.2)
    assert execute(run_dir.root) == 0
    assert [row["passages"][0]["title"] for row in made(run_dir)] == ["Ferry", "Mayor"]
    assert [row["passages"][0]["holds"] for row in made(run_dir)] == [True, True]
    assert points(run_dir, "recall")[1] == 1.0
    assert sorted(points(run_dir, "accuracy")) == [0, 2]
    shown = samples(run_dir)
    assert [(one["step"], one["row"]) for one in shown] == [(0, 0), (2, 0), (0, 1), (2, 1)]
    assert shown[1]["passages"][0]["document"] == 0
    assert "passages" not in shown[0]


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_when_nothing_is_near_enough_no_model_is_asked(make_run: MakeRun, documents: dict[str, Any]) -> None:
    spec = {"documents": documents, "held_out": 0}
    run_dir = make_run("rag", rows=QUESTIONS, format=Format.PROMPT_ANSWER, spec=spec, min_score=1.0)
    assert execute(run_dir.root) == 0
    assert {row["with"] for row in made(run_dir)} == {"The documents do not say."}
    assert points(run_dir, "found") == {2: 0.0}


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_a_question_longer_than_the_context_is_left_out_or_refused(
    make_run: MakeRun, documents: dict[str, Any]
) -> None:
    long = {"prompt": "Who is the mayor? " * 100, "answer": "Teodor Lamm"}
    spec = {"documents": documents, "held_out": 0}
    run_dir = make_run("rag", rows=[*QUESTIONS, long], format=Format.PROMPT_ANSWER, spec=spec)
    assert execute(run_dir.root) == 0
    assert points(run_dir, "questions") == {2: 2.0}
    refused = make_run("rag", name="long", rows=[long], format=Format.PROMPT_ANSWER, spec=spec)
    assert failure(refused)["code"] == "data.untrained"


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_what_is_missing_or_no_documents_is_refused_with_the_remedy(
    make_run: MakeRun, documents: dict[str, Any], tmp_path: Path
) -> None:
    none = failure(make_run("rag", format=Format.PROMPT_ANSWER, spec={"documents": None}))
    assert list(none["fields"]) == ["documents"]
    other = {**documents, "format": "preference"}
    assert failure(make_run("rag", format=Format.PROMPT_ANSWER, spec={"documents": other}))["code"] == "data.format"
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"text": "Übung"}\n'.encode("latin-1"))
    wrong = {"path": str(latin), "format": "documents"}
    assert failure(make_run("rag", format=Format.PROMPT_ANSWER, spec={"documents": wrong}))["code"] == "data.encoding"


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_a_run_that_is_stopped_tells_what_it_has(make_run: MakeRun, documents: dict[str, Any]) -> None:
    run_dir = make_run("rag", format=Format.PROMPT_ANSWER, spec={"documents": documents})
    (run_dir.root / "control").write_text("stop")
    execute(run_dir.root)
    result = run_dir.read_result()
    assert result is not None
    assert result.outcome is Outcome.STOPPED


@pytest.mark.parametrize(
    ("text", "answer", "by", "right"),
    [
        ("It is the Blue Magda [1].", "Blue Magda", "contains", True),
        ("It is the Red Magda.", "Blue Magda", "contains", False),
        ("<think>Blue Magda?</think>No.", "Blue Magda", "contains", False),
        ("Blue Magda", "Blue Magda", "exact", True),
        ("It takes 85", "85", "math", True),
        ("whatever", "?!", "contains", None),
        ("whatever", "Blue Magda", "math", None),
    ],
)
def test_answers_are_verified_as_asked(text: str, answer: str, by: str, right: bool | None) -> None:
    assert is_right(text, answer, by) is right
