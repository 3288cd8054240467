"""What the variants of a model are worth and what they cost: quality against size, memory and speed."""

import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets.models import DatasetVersion
from webapp.metrics.selectors import series_read_many
from webapp.registry.models import BaseModel, Checkpoint, CheckpointKind
from webapp.registry.selectors import model_get
from webapp.runs.models import Run
from webapp.runs.selectors import variants_of

LOSS, MEMORY, SPEED = "eval/loss", "size/memory", "speed/tokens_per_second"
_WIDTH, _HEIGHT, _EDGE = 360, 220, 24


@dataclass(frozen=True)
class Variant:
    """A model that was made of another, or that one itself; `None` is what nobody has measured."""

    name: str
    url: str
    method: str
    run_id: uuid.UUID | None
    loss: float
    disk: float | None = None
    memory: float | None = None
    speed: float | None = None

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 100.0))


@dataclass(frozen=True)
class Point:
    """Where a variant stands in a drawing."""

    variant: Variant
    x: float
    y: float


@dataclass(frozen=True)
class Plot:
    """Loss against one cost; `line` joins the variants that no other beats in both."""

    title: str
    unit: str
    points: list[Point]
    line: str
    low: float
    high: float
    best: float
    worst: float


@dataclass(frozen=True)
class _Axis:
    title: str
    unit: str
    of: Callable[[Variant], float | None]
    more_is_better: bool = False


_AXES = (
    _Axis("Size on disk", "bytes", lambda variant: variant.disk),
    _Axis("Memory", "bytes", lambda variant: variant.memory),
    _Axis("Writing", "tokens/s", lambda variant: variant.speed, more_is_better=True),
)


@requires(Role.VIEWER)
@require_safe
def frontier(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The newest checkpoint of each run from a model, as far as they were measured on the same rows (`rows`)."""
    model = model_get(request.actor, pk)
    by_rows: dict[DatasetVersion, list[Checkpoint]] = {}
    for checkpoint in variants_of(request.actor, model):
        by_rows.setdefault(_rows_of(checkpoint), []).append(checkpoint)
    # What most variants were measured on, the newest of equals.
    order = sorted(by_rows, key=lambda version: (-len(by_rows[version]), -version.pk.int))
    asked = request.GET.get("rows", "")
    chosen = next((version for version in order if str(version.pk) == asked), order[0] if order else None)
    variants = _variants(model, by_rows[chosen]) if chosen is not None else []
    context = {
        "model": model,
        "rows": order,
        "chosen": chosen,
        "variants": sorted(variants, key=lambda variant: variant.loss),
        "plots": [plot for axis in _AXES if (plot := _plot(axis, variants)) is not None],
        "width": _WIDTH,
        "height": _HEIGHT,
        "edge": _EDGE,
        "right": _WIDTH - _EDGE,
        "bottom": _HEIGHT - _EDGE,
    }
    return render(request, "ui/frontier.html", context)


def _rows_of(checkpoint: Checkpoint) -> DatasetVersion:
    """What the variant was measured on: the evaluation set of its run, or what was held out of its dataset."""
    run = checkpoint.run_checkpoint.run
    rows = run.held_out_version
    assert rows is not None  # noqa: S101 (variants have rows)
    return rows


def _variants(model: BaseModel, checkpoints: Sequence[Checkpoint]) -> list[Variant]:
    start = _start(model, checkpoints)
    found = [] if start is None else [start]
    for checkpoint in checkpoints:
        weights = sum(file["size"] for file in checkpoint.download_files if file["path"].endswith(".safetensors"))
        # An adapter is of use with its model alone.
        below = (start.disk if start else None) if checkpoint.kind == CheckpointKind.ADAPTER else 0.0
        metrics = checkpoint.metrics
        found.append(
            Variant(
                name=checkpoint.name,
                url=reverse("checkpoint", args=[checkpoint.pk]),
                method=checkpoint.method,
                run_id=checkpoint.run_checkpoint.run_id,
                loss=metrics[LOSS],
                disk=None if below is None else below + weights,
                memory=metrics.get(MEMORY),
                speed=metrics.get(SPEED),
            )
        )
    return found


def _start(model: BaseModel, checkpoints: Sequence[Checkpoint]) -> Variant | None:
    """The model itself, as the newest run that made it smaller has measured it before."""
    runs: list[Run] = [one.run_checkpoint.run for one in checkpoints if MEMORY in one.metrics]
    if not runs:
        return None
    run = max(runs, key=lambda one: one.pk.int)
    before = {}
    for key in (LOSS, "size/bytes", MEMORY, SPEED):
        view = series_read_many([run.pk], key).get(run.pk)
        if view is not None and len(view.columns.step) and view.columns.step[0] == 0:
            before[key] = float(view.columns.mean[0])
    if LOSS not in before:
        return None
    return Variant(
        name=model.name,
        url=reverse("model", args=[model.pk]),
        method="",
        run_id=None,
        loss=before[LOSS],
        disk=before.get("size/bytes"),
        memory=before.get(MEMORY),
        speed=before.get(SPEED),
    )


def _plot(axis: _Axis, variants: Sequence[Variant]) -> Plot | None:
    """The drawing of one cost; None where fewer than two variants have it."""
    known = [(variant, cost) for variant in variants if (cost := axis.of(variant)) is not None]
    if len(known) < 2:
        return None
    costs, losses = [cost for _, cost in known], [variant.loss for variant, _ in known]
    points = [
        Point(
            variant,
            round(_EDGE + _share(cost, costs) * (_WIDTH - 2 * _EDGE), 1),
            round(_HEIGHT - _EDGE - _share(variant.loss, losses) * (_HEIGHT - 2 * _EDGE), 1),
        )
        for variant, cost in known
    ]
    sign = -1 if axis.more_is_better else 1
    order = sorted(zip(known, points, strict=True), key=lambda pair: (sign * pair[0][1], pair[0][0].loss))
    best, unbeaten = math.inf, []
    for (variant, _), point in order:
        if variant.loss < best:
            best = variant.loss
            unbeaten.append(f"{point.x},{point.y}")
    return Plot(axis.title, axis.unit, points, " ".join(unbeaten), min(costs), max(costs), min(losses), max(losses))


def _share(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.5
