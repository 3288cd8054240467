"""A tiny model, canonical rows of each format, and runs on them."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from polm_core import catalogue
from polm_core.blocks import TrainConfig, WritingConfig
from polm_core.formats import Format
from polm_core.rewards.config import AskingConfig, OnlineConfig
from polm_core.run_dir import RunDir
from tests.support import images, tiny
from tests.support.judge import JudgeServer, judging

MakeRun = Callable[..., RunDir]

_METHODS = {method.slug for method in (*catalogue.METHODS, *catalogue.EVALUATIONS)}
_ROWS = {
    Format.CONVERSATION: tiny.conversations,
    Format.PREFERENCE: tiny.preferences,
    Format.RATING: tiny.ratings,
    Format.TEXT: tiny.texts_of,
    Format.PROMPT_ANSWER: tiny.prompts,
    Format.PROMPT: tiny.bare_prompts,
    Format.STEPWISE: tiny.steps,
    Format.EDIT: tiny.edits,
    Format.IMAGE_CONVERSATION: images.colour_rows,
    Format.DOCUMENTS: tiny.documents,
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model to train."""
    return tiny.build_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_model_with_biases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_model(tmp_path_factory.mktemp("model") / "tiny-biased", biases=True)


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says other things than the one to train, of the same tokens."""
    return tiny.build_model(tmp_path_factory.mktemp("model") / "teacher", seed=1)


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def judge_server() -> Iterator[JudgeServer]:
    """An OpenAI-compatible endpoint that says 5 to everything."""
    with judging() as server:
        yield server


@pytest.fixture
def make_run(tmp_path: Path, tiny_model: Path, tiny_teacher: Path) -> MakeRun:
    """Write the run directory of a small run: `make_run("sft", max_steps=4)`.

    `rows` and `format` choose the data, none where that is None. `spec` overrides other parts of `config.yaml`, the
    rest is the method's config.
    """

    def make(
        method: str,
        *,
        name: str = "run",
        format: Format | None = Format.CONVERSATION,
        rows: list[Any] | None = None,
        spec: dict[str, Any] | None = None,
        **config: Any,
    ) -> RunDir:
        run_dir = RunDir(tmp_path / name)
        run_dir.create()
        if format is Format.IMAGE_CONVERSATION:
            images.write_pictures(tmp_path)
        dataset = {}
        if format is not None:
            data = tiny.write_rows(tmp_path / f"{name}.jsonl", _ROWS[format](24) if rows is None else rows)
            dataset = {"dataset": {"path": str(data), "format": format.value}}
        defaults: dict[str, Any] = {"batch_size": 4} if format is not None else {}
        if method not in _METHODS or issubclass(catalogue.get(method).config, TrainConfig):
            defaults |= {"max_steps": 4, "learning_rate": 1e-3}
        if method in _METHODS and issubclass(catalogue.get(method).config, WritingConfig):
            defaults["generation"] = {"max_new_tokens": 4}
        if method in _METHODS and issubclass(catalogue.get(method).config, OnlineConfig):
            defaults["num_generations"] = 2
        if method in _METHODS and issubclass(catalogue.get(method).config, AskingConfig):
            # A model that is as small gets no sum right: what tells its answers apart is their length.
            defaults |= {"max_completion_length": 8, "rewards": {"length": 1, "length_max": 10}}
        more: dict[str, Any] = {}
        if method in _METHODS and catalogue.get(method).teacher:
            defaults["max_completion_length"] = 8
            if method == "seq-kd":
                # A random model hardly ever ends an answer, and its likeliest says nothing.
                defaults |= {"sampled": True, "skip_cut_answers": False}
            more["teacher_model"] = {"path": str(tiny_teacher), "name": "teacher"}
        if method in _METHODS and catalogue.get(method).merges:
            more["merge_models"] = [{"path": str(tiny_teacher), "name": "teacher"}]
        if method in _METHODS and catalogue.get(method).takes_documents:
            documents = tiny.write_rows(tmp_path / f"{name}-documents.jsonl", tiny.documents(6))
            defaults |= {"max_length": 400, "chunk_tokens": 16, "top_k": 2, "max_completion_length": 8}
            more["documents"] = {"path": str(documents), "format": "documents"}
        raw = {
            "method": method,
            "model": {"path": str(tiny_model), "name": "tiny"},
            **dataset,
            **more,
            "config": {**defaults, **config},
            **(spec or {}),
        }
        run_dir.config.write_text(yaml.safe_dump(raw))
        return run_dir

    return make


@contextmanager
def watching(run_dir: RunDir, on_phase: Callable[[str], None]) -> Iterator[None]:
    """Call `on_phase` with each phase that the run comes to, once."""
    done = threading.Event()

    def watch() -> None:
        seen: set[str] = set()
        while not done.is_set():
            progress = run_dir.read_progress()
            if progress is not None and progress.phase not in seen:
                seen.add(progress.phase)
                on_phase(progress.phase)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def points(run_dir: RunDir, key: str) -> dict[int, float]:
    """The logged values of one metric by step."""
    lines = [json.loads(line) for line in run_dir.metrics.read_text().splitlines()]
    return {line["step"]: line["values"][key] for line in lines if key in line["values"]}


def samples(run_dir: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run_dir.samples.read_text().splitlines()]
