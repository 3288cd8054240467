"""What a method is given to run with: the resolved description of the run, and the way to tell how it goes."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from polm_core import __version__
from polm_core.errors import ConfigError
from polm_core.formats import Format
from polm_core.run_dir import Outcome, Progress, RunDir, Wish, metric_line

_MAX_CONFIG_BYTES = 1_000_000
_PROGRESS_SECONDS = 0.5
_MAX_TORN_LINE = 10_000_000
# Models that one run merges with the one that it starts from.
MAX_MERGED = 15


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelSpec(_Part):
    """The model a run starts from: a folder or a hub id, with an adapter to go on from or not.

    `name` is what checkpoints call the model they were trained from; the hub id or the path when not given.
    """

    path: Path | None = None
    hub_id: str | None = None
    revision: str | None = None
    adapter: Path | None = None
    name: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.hub_id is None):
            raise ValueError("give either path or hub_id")
        self.name = self.name or self.source
        return self

    @property
    def source(self) -> str:
        """What the model is loaded from."""
        return str(self.path) if self.path is not None else str(self.hub_id)


class DatasetSpec(_Part):
    """Canonical rows (JSON Lines) and the format they are in.

    Images that they name are taken from the folder `images`, the rows' own when not given.
    """

    path: Path
    format: Format
    images: Path | None = None
    name: str = ""


class RunSpec(_Part):
    """All of `config.yaml`: enough to repeat the run on any machine that has the same model and rows.

    `held_out` is the share of the dataset kept for evaluation when there is no `eval_dataset`; `reward_model` scores
    answers where the config gives its score a weight, and so does `judge_model` where the judge is a model; from
    `teacher_model` methods learn that have a teacher, and win rates are measured against it; `merge_models` are merged
    with `model` by methods that merge, and `dataset` is left out where a method takes none; `documents` are what a
    method answers from that takes some; `resume` is a checkpoint of this run to go on from. `config` is validated by
    the method.
    """

    run_id: str = ""
    method: str
    model: ModelSpec
    reward_model: ModelSpec | None = None
    judge_model: ModelSpec | None = None
    teacher_model: ModelSpec | None = None
    merge_models: list[ModelSpec] = Field(default_factory=list, max_length=MAX_MERGED)
    dataset: DatasetSpec | None = None
    eval_dataset: DatasetSpec | None = None
    documents: DatasetSpec | None = None
    held_out: float = Field(0.1, ge=0, le=0.5)
    config: dict[str, Any] = Field(default_factory=dict)
    resume: Path | None = None
    code_version: str = __version__

    def anchored(self, folder: Path) -> "RunSpec":
        """The same with every relative path taken from `folder`."""

        def anchor(path: Path | None) -> Path | None:
            return folder / path if path is not None else None

        def anchor_data(data: DatasetSpec | None) -> DatasetSpec | None:
            if data is None:
                return None
            return data.model_copy(update={"path": folder / data.path, "images": anchor(data.images)})

        def anchor_model(model: ModelSpec) -> ModelSpec:
            return model.model_copy(update={"path": anchor(model.path), "adapter": anchor(model.adapter)})

        others = {name: getattr(self, name) for name in ("reward_model", "judge_model", "teacher_model")}
        return self.model_copy(
            update={
                "model": anchor_model(self.model),
                **{name: anchor_model(other) for name, other in others.items() if other is not None},
                "merge_models": [anchor_model(model) for model in self.merge_models],
                "dataset": anchor_data(self.dataset),
                "eval_dataset": anchor_data(self.eval_dataset),
                "documents": anchor_data(self.documents),
                "resume": anchor(self.resume),
            }
        )


def load_spec(path: Path) -> RunSpec:
    """Read a `config.yaml`; relative paths in it are taken from its own folder.

    Raises `ConfigError` naming what is missing or wrong.
    """
    raw = _read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path.name} must be a mapping.", advice="It starts with `method:`, `model:`, `dataset:` and `config:`."
        )
    try:
        spec = RunSpec.model_validate(raw)
    except ValidationError as error:
        fields: dict[str, list[str]] = {}
        for problem in error.errors(include_url=False):
            fields.setdefault(".".join(str(part) for part in problem["loc"]), []).append(problem["msg"])
        named = "; ".join(f"{name or path.name}: {problems[0]}" for name, problems in fields.items())
        raise ConfigError(f"{path.name} does not describe a run: {named}", fields=fields) from error
    return spec.anchored(path.resolve().parent)


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ConfigError(f"{path.name} is over {_MAX_CONFIG_BYTES // 1_000_000} MB: that is not a run's config.")
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error


def dump_spec(spec: RunSpec) -> str:
    """The YAML that `load_spec` reads back."""
    import yaml

    text: str = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


class Ending(NamedTuple):
    """Why a run ends before its last step."""

    outcome: Outcome
    error: dict[str, Any] | None = None


class InterruptedRun(Exception):
    """The run was asked to end before training began, so there is nothing to save."""


class RunContext:
    """How a method tells of its progress and hears what is wished of it.

    Files are written by the first process of a run alone (`is_main`); in the others every write does nothing.
    """

    def __init__(self, run_dir: RunDir, spec: RunSpec) -> None:
        self.run_dir = run_dir
        self.spec = spec
        self.is_main = os.environ.get("RANK", "0") == "0"
        self.ending: Ending | None = None
        self.latest: dict[str, float] = {}
        self._asked: Ending | None = None
        self._progress = Progress()
        self._progress_written = 0.0
        run_dir.create()
        self._metrics = open_lines(run_dir.metrics, writes=self.is_main)
        self._samples = open_lines(run_dir.samples, writes=self.is_main)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._write_progress()
        self._metrics.close()
        self._samples.close()

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one point of each key. NaN and infinities are kept: they are what happened."""
        self.latest.update(values)
        if self.is_main and values:
            self._metrics.write(metric_line(step, time.time(), values))

    def log_sample(self, step: int, prompt: str, completion: str, **more: Any) -> None:
        """Append one generated answer; `more` may hold `reference`, `row`, reward parts or an advantage."""
        if self.is_main:
            line = {"step": step, "time": time.time(), "prompt": prompt, "completion": completion, **more}
            self._samples.write(json.dumps(line, ensure_ascii=False) + "\n")

    def phase(self, name: str) -> None:
        """Tell what is being done now (`loading the model`, `training`, ...)."""
        self._progress.phase = name
        self._write_progress()

    def progress(self, **values: int | float) -> None:
        """Update the fields of `Progress`; written to disk at most twice a second."""
        self._progress = self._progress.model_copy(update=values)
        self.sign_of_life()

    def sign_of_life(self) -> None:
        """Tell that work goes on, within a step or a phase; called often, written at most twice a second."""
        if time.monotonic() - self._progress_written > _PROGRESS_SECONDS:
            self._write_progress()

    def ask(self, ending: Ending) -> None:
        """Have the run end at its next step; for signal handlers, so it does no more than note it."""
        self._asked = self._asked or ending

    def poll(self) -> Ending | None:
        """Whether the run is to end now, by the supervisor's wish or a signal; the first answer stays."""
        if self.ending is None:
            self.ending = self._asked or _ENDINGS.get(self.run_dir.wish())
        return self.ending

    def check(self) -> None:
        """Raise `InterruptedRun` when the run is to end; called between the phases before training.

        Of several processes only the first does, and takes the others with it: they would not all hear of it at the
        same point.
        """
        if self.is_main and self.poll() is not None:
            raise InterruptedRun

    def _write_progress(self) -> None:
        if self.is_main:
            self._progress = self._progress.model_copy(update={"alive_at": time.time()})
            self.run_dir.write_progress(self._progress)
        self._progress_written = time.monotonic()


_ENDINGS = {Wish.STOP: Ending(Outcome.STOPPED), Wish.PAUSE: Ending(Outcome.PAUSED)}

PREEMPTED = Ending(
    Outcome.PAUSED,
    {
        "code": "preempted",
        "message": "The machine asked the run to make room; it was saved and can go on.",
        "advice": "",
        "fields": {},
    },
)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The entries of `values` that are numbers, as floats."""
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """The entries that are neither NaN nor infinite, for files that must be strict JSON."""
    return {key: value for key, value in values.items() if math.isfinite(value)}


def open_lines(path: Path, *, writes: bool) -> TextIO:
    """Open for appending whole lines; a torn last line (left by a kill) is cut off first.

    A process that does not write must not cut either: another may have written meanwhile.
    """
    if not writes:
        return Path(os.devnull).open("w", encoding="utf-8")
    with path.open("a+b") as file:
        length = file.tell()
        file.seek(max(0, length - _MAX_TORN_LINE))
        tail = file.read()
        file.truncate(length - len(tail) + tail.rfind(b"\n") + 1)
    return path.open("a", encoding="utf-8", buffering=1)
