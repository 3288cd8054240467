"""Canonical rows: reading, converting to what a method takes, and keeping some back for evaluation."""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polm_core.context import DatasetSpec, RunSpec
from polm_core.data.convert import compatible, convert_rows
from polm_core.errors import ConfigError, DataError
from polm_core.formats import SPECS, Format
from polm_core.method import no_documents

Row = dict[str, Any]


# Answers to one prompt stay together: a model that has seen one of them has seen half of what it is tested on.
_JUDGED = {Format.PREFERENCE: "prompt", Format.RATING: "prompt"}


class Split(NamedTuple):
    """Rows to train on and rows to evaluate on; `format` is what both are in now."""

    train: list[Row]
    held_out: list[Row]
    format: Format


def load_split(spec: RunSpec, formats: Sequence[Format], *, eval_rows: int, seed: int) -> Split:
    """The rows of a run, in one of `formats`.

    Without an evaluation set, `spec.held_out` of the rows, at most `eval_rows`, are kept back, the same ones for the
    same seed. Raises `ConfigError` when the run has no dataset, `DataError` when nothing is left to train on.
    """
    rows, target = load_rows(dataset_of(spec), formats)
    if spec.eval_dataset is not None:
        others, _ = load_rows(spec.eval_dataset, (target,))
        kept = sorted(random.Random(seed).sample(range(len(others)), min(eval_rows, len(others))))  # noqa: S311
        return Split(rows, [others[index] for index in kept], target)
    count = min(round(len(rows) * spec.held_out), eval_rows)
    return Split(*split_rows(rows, max(1, count) if spec.held_out else 0, seed, by=_JUDGED.get(target)), target)


def dataset_of(spec: RunSpec) -> DatasetSpec:
    """The dataset of a run that has to have one. Raises `ConfigError` when it has none."""
    if spec.dataset is None:
        raise ConfigError(
            f"{spec.method} takes a dataset, and the run has none.",
            fields={"dataset": ["must name a file of rows and their format"]},
            advice="Name the rows under dataset, as path and format.",
        )
    return spec.dataset


def load_documents(spec: RunSpec) -> list[Row]:
    """The documents of a run. Raises `ConfigError` when there are none, `DataError` when they are something else."""
    if spec.documents is None:
        raise no_documents()
    return load_rows(spec.documents, (Format.DOCUMENTS,))[0]


def asked(split: Split) -> list[Row]:
    """The rows that a run asks about which trains on none: those held out, or all where none is."""
    return split.held_out or split.train


def load_rows(dataset: DatasetSpec, formats: Sequence[Format]) -> tuple[list[Row], Format]:
    """All rows of `dataset`, converted to the first of `formats` that its own can become."""
    fit = compatible(formats, dataset.format)
    if fit.target is None:
        raise DataError(fit.reason, code="data.format", advice="Choose another dataset, or map this one anew.")
    target = fit.target
    rows = list(convert_rows(read_jsonl(dataset.path), dataset.format, target))
    if not rows:
        raise DataError(
            f"{dataset.name or dataset.path.name} has no row to train on.",
            code="data.empty",
            advice=f"A {target} row looks like {json.dumps(SPECS[target].example)}.",
        )
    _check_columns(rows, target)
    if target is Format.IMAGE_CONVERSATION:
        rows = [{**row, "images": _found(dataset, row["images"], number)} for number, row in enumerate(rows, 1)]
    return rows, target


def _found(dataset: DatasetSpec, images: Any, number: int) -> list[str]:
    """The images of a row as files, which lie in the dataset's folder of images or below."""
    if not isinstance(images, list) or not images or not all(isinstance(name, str) for name in images):
        raise DataError(f"Row {number} has no list of images.", code="data.column", advice="images: file names.")
    folder = (dataset.images or dataset.path.parent).resolve()
    found = [(folder / name).resolve() for name in images]
    for name, path in zip(images, found, strict=True):
        if not path.is_relative_to(folder) or not path.is_file():
            raise DataError(
                f"Row {number} names the image '{name[:200]}', which is not there.",
                code="data.image",
                advice="Put images into the folder of the rows, or one below it, or give theirs as `images`.",
            )
    return [str(path) for path in found]


def read_jsonl(path: Path) -> list[Row]:
    """Every line of a JSON Lines file that is not blank. Raises `DataError` naming the line that is not an object."""
    rows = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(_parse_line(line, number, path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", code="data.unreadable") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text.", code="data.encoding") from error
    return rows


def _parse_line(line: str, number: int, path: Path) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"Line {number} of {path.name} is not JSON: {error}.", code="data.syntax") from error
    if not isinstance(row, dict):
        raise DataError(f"Line {number} of {path.name} is not a JSON object.", code="data.syntax")
    return row


def _check_columns(rows: Sequence[Row], format_: Format) -> None:
    columns = SPECS[format_].columns
    for number, row in enumerate(rows, 1):
        for column in columns:
            if row.get(column) is None:
                raise DataError(
                    f"Row {number} has no {column}, which {format_} rows need.",
                    code="data.column",
                    advice=f"{column}: {columns[column]}.",
                )


def split_rows(rows: list[Row], count: int, seed: int, *, by: str | None = None) -> tuple[list[Row], list[Row]]:
    """`rows` less about `count` of them, and those held out; equal rows stay on one side, so that none leaks.

    With `by`, rows that are equal in that column do too, unless all are. At least one distinct row is left for
    training; with a single distinct row nothing is held out.
    """
    order = _groups(rows, by) if by else []
    if len(order) < 2:
        order = _groups(rows, None)
    random.Random(seed).shuffle(order)  # noqa: S311
    held: set[int] = set()
    while order[1:] and len(held) < count:
        held.update(order.pop())
    train = [row for index, row in enumerate(rows) if index not in held]
    return train, [rows[index] for index in sorted(held)]


def _groups(rows: list[Row], by: str | None) -> list[list[int]]:
    """The places of rows that are equal, or equal in the column `by`."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(fingerprint({by: row[by]} if by else row), []).append(index)
    return list(groups.values())


def fingerprint(row: Row) -> str:
    """The same for rows with equal content, whatever the order of their keys."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
