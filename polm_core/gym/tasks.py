"""The tasks of reasoning-gym that are offered, read from `tasks.json`: the library takes seconds to import."""

from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

TABLE = Path(__file__).with_name("tasks.json")
MAX_ROWS = 50_000
MAX_SEED = 2**31 - 1


class Level(BaseModel):
    """A step of a task's curriculum, counted from 1, and what it sets."""

    level: int
    settings: dict[str, Any]

    @property
    def says(self) -> str:
        """The settings in words: `num_terms 2 to 3, num_digits 1 to 2`."""
        return ", ".join(_in_words(self.settings))


class Task(BaseModel):
    """A task: what it asks, how hard it can be, and a row of it. Without levels there is only the usual difficulty."""

    name: str
    category: str
    levels: list[Level]
    question: str
    answer: str

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").capitalize()


class Table(BaseModel):
    """What the library of that version offers, and for each task that is left out why."""

    version: str
    tasks: list[Task]
    left_out: dict[str, str]


class TaskChoice(BaseModel):
    """Rows to be made: which task, how hard (None for what is usual), how many, and from which seed."""

    model_config = ConfigDict(extra="forbid")
    task: str
    level: int | None = None
    size: int = Field(ge=1, le=MAX_ROWS)
    seed: int = Field(0, ge=0, le=MAX_SEED)

    @field_validator("task")
    @classmethod
    def _check_task(cls, name: str) -> str:
        return task_named(name).name

    @field_validator("level")
    @classmethod
    def _check_level(cls, level: int | None, info: ValidationInfo) -> int | None:
        if "task" in info.data:
            check_level(info.data["task"], level)
        return level


@lru_cache(maxsize=1)
def table() -> Table:
    """The whole table."""
    return Table.model_validate_json(TABLE.read_bytes())


@lru_cache(maxsize=1)
def tasks() -> dict[str, Task]:
    """The tasks that are offered, by name."""
    return {task.name: task for task in table().tasks}


def task_named(name: str) -> Task:
    """The task of that name. Raises `ValueError` that says which names are near, or why it is left out."""
    if (task := tasks().get(name)) is not None:
        return task
    if (reason := table().left_out.get(name)) is not None:
        raise ValueError(f"must not be {name}, which is left out: {reason}")
    near = get_close_matches(name, tasks(), n=3, cutoff=0.5)
    such = f": did you mean {' or '.join(near)}?" if near else f", such as {', '.join(list(tasks())[:3])}"
    raise ValueError(f"must be a task of reasoning-gym{such}")


def check_level(name: str, level: int | None) -> None:
    """Raise `ValueError` unless the task of that name can be so hard."""
    levels = [one.level for one in task_named(name).levels]
    if level is None or level in levels:
        return
    if not levels:
        raise ValueError(f"must be left out: {name} is always as hard")
    raise ValueError(f"must be left out or one of {', '.join(map(str, levels))}, which {name} has")


def _in_words(settings: dict[str, Any]) -> list[str]:
    words, bounds = [], {name.removeprefix("min_") for name in settings if name.startswith("min_")}
    for name, value in settings.items():
        noun = name.removeprefix("min_").removeprefix("max_")
        if noun in bounds and f"max_{noun}" in settings:
            if name.startswith("min_"):
                low, high = value, settings[f"max_{noun}"]
                words.append(f"{noun} {low}" if low == high else f"{noun} {low} to {high}")
        else:
            words.append(f"{name} {value}")
    return words
