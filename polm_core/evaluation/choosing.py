"""Which rows a model is measured on: the same ones, in the same order, whatever the model."""

from collections.abc import Sequence
from typing import Literal

from polm_core.blocks import DATA, HARDWARE, SCHEDULE, OneProcessConfig, RunConfig, setting
from polm_core.errors import DataError
from polm_core.training.rows import Row, fingerprint


class EvaluationConfig(RunConfig, OneProcessConfig):
    """What every evaluation shares."""

    measure_on: Literal["held-out", "all"] = setting("held-out", group=DATA)
    """Which rows of the dataset are taken: `held-out` those that a run with the same seed keeps back from training on
    it, `all` every row, for a dataset that nothing was trained on."""

    eval_rows: int = setting(200, group=SCHEDULE, unit="rows", ge=1, le=100_000)
    """Most rows that are taken, the same ones for the same seed: the more there are, the narrower the interval."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Processes of the run. One, for the model answers in one."""


def rows_to_measure(config: EvaluationConfig, train: Sequence[Row], held_out: Sequence[Row]) -> list[Row]:
    """At most `eval_rows` rows, drawn by their content and the seed alone. Raises `DataError` when there are none."""
    rows = list(held_out) if config.measure_on == "held-out" else [*train, *held_out]
    if not rows:
        raise DataError(
            "No row is held out to measure the model on.",
            code="data.no_held_out",
            advice="Set measure_on to all if nothing was trained on this dataset, or take one with more distinct rows.",
        )
    return sorted(rows, key=lambda row: fingerprint({"seed": config.seed, "row": row}))[: config.eval_rows]
