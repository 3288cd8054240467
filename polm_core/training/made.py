"""Rows that a run makes itself before it trains on them: none is made twice, whatever interrupts it."""

import json
import logging
import shutil
from collections.abc import Callable, Sequence

from pydantic import BaseModel

from polm_core.context import RunContext, open_lines
from polm_core.training.rows import Row, fingerprint, read_jsonl

logger = logging.getLogger(__name__)

Maker = Callable[[int, Sequence[Row]], list[Row]]
"""Makes a row from each of some prompts, given the place of the first of them."""


def make_rows(
    context: RunContext, config: BaseModel, prompts: Sequence[Row], make: Maker, *, batch_size: int, turn: int = 0
) -> list[Row]:
    """What `make` makes of each prompt, `batch_size` of them at a time.

    Each batch is written to the run's `made.jsonl` as it comes, and what stands there by the same settings, or in the
    checkpoint that the run goes on from, is taken as it is. Whoever ends the run does so between two batches. A run
    that goes over its prompts in several turns, from 0 on, has the rows of each after those of the one before.
    """
    found = _found(context, fingerprint({"config": config.model_dump(mode="json"), "prompts": list(prompts)}))
    before = turn * len(prompts)
    made = found[before : before + len(prompts)]
    with open_lines(context.run_dir.made, writes=True) as file:
        while len(made) < len(prompts):
            context.check()
            # A batch that was cut off is made anew as a whole: other batches would be drawn by other chances.
            start = len(made) // batch_size * batch_size
            for row in make(start, prompts[start : start + batch_size])[len(made) - start :]:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                made.append(row)
            context.progress(samples=before + len(made))
            logger.info("%d of %d prompts are done.", len(made), len(prompts))
    return made


def rows_made(context: RunContext) -> list[Row]:
    """The rows that the run has made so far."""
    return read_jsonl(context.run_dir.made)[1:]


def _found(context: RunContext, by: str) -> list[Row]:
    """The rows that are there; the file is begun anew when it holds none, or those of other settings."""
    path, resume = context.run_dir.made, context.spec.resume
    if resume is not None and not path.is_file() and (resume / path.name).is_file():
        shutil.copy(resume / path.name, path)
    open_lines(path, writes=True).close()
    lines = read_jsonl(path)
    if lines and lines[0].get("made_by") == by:
        return lines[1:]
    path.write_text(json.dumps({"made_by": by}) + "\n", encoding="utf-8")
    return []
