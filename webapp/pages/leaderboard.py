"""The leaderboard: models of a project by what evaluations have measured of them."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_safe

from polm_core import catalogue
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.evaluations.selectors import BY_MODEL, Filters, Leaderboard
from webapp.pages.context import Frame
from webapp.pages.runs.inputs import storable

_HEAD = (
    *("model", "model_id", "checkpoint_id", "evaluation", "metric", "dataset", "version", "settings"),
    *("value", "low", "high", "rows", "best", "run_id", "measured_at"),
    *("baseline", "difference", "difference_low", "difference_high", "rows_compared"),
)
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@requires(Role.VIEWER)
@require_safe
def leaderboard(request: StudioRequest) -> HttpResponse:
    """The table; as a fragment, the table alone. The address holds the whole view."""
    asked, board = _asked(request)
    context = {
        "asked": asked,
        "board": board,
        "headings": [
            {"column": column, "query": _sorted_by(asked, column.key), "order": _order(board, column.key)}
            for column in board.columns
        ],
        "by_model": {"query": _sorted_by(asked, BY_MODEL), "order": _order(board, BY_MODEL)},
        "evaluations": [one for one in catalogue.EVALUATIONS if one.slug in _measured(board)],
        "datasets": {str(one.pk): one.name for one in _datasets(board)},
        "models": sorted({one.model for one in board.all_results}, key=lambda model: model.name.lower()),
        "may_launch": request.actor.holds(Role.MEMBER, request.actor.current_team.pk),
    }
    template = "evaluations/_leaderboard.html" if request.htmx else "evaluations/leaderboard.html"
    return render(request, template, context)


@requires(Role.VIEWER)
@require_safe
def leaderboard_file(request: StudioRequest) -> HttpResponse:
    """The same as CSV, a line for each figure."""
    _, board = _asked(request)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_HEAD)
    writer.writerows(_lines(board))
    headers = {"Content-Disposition": 'attachment; filename="leaderboard.csv"'}
    return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _asked(request: StudioRequest) -> tuple[QueryDict, Leaderboard]:
    """What the address asks for; without a project it is the one chosen in the top bar."""
    asked = storable(request.GET)
    frame = Frame(request)
    if "project" not in asked and frame.project:
        asked["project"] = frame.project.name
    wanted = asked.get("project", "").strip().lower()
    project = next((one for one in frame.projects if one.name.lower() == wanted), None)
    filters = Filters(project, asked.get("method", ""), asked.get("dataset", ""))
    team = request.actor.current_team
    sort, baseline = asked.get("sort", ""), asked.get("baseline", "")
    return asked, Leaderboard(request.actor, team, filters, baseline=baseline, sort=sort)


def _measured(board: Leaderboard) -> set[str]:
    return {one.run.method for one in board.all_results}


def _datasets(board: Leaderboard) -> list[Any]:
    found = {one.version.dataset for one in board.all_results}
    return sorted(found, key=lambda dataset: dataset.name.lower())


def _sorted_by(asked: QueryDict, key: str) -> str:
    """The address ordered by a column: best first, and the other way round when it is so already."""
    query = asked.copy()
    query["sort"] = f"-{key}" if asked.get("sort") == key else key
    return query.urlencode()


def _order(board: Leaderboard, key: str) -> str:
    if board.sort.removeprefix("-") not in board.orders:
        return ""
    return {key: "ascending", f"-{key}": "descending"}.get(board.sort, "")


def _lines(board: Leaderboard) -> Iterator[Sequence[Any]]:
    baseline = board.baseline
    for line in board.lines:
        for column, cell in zip(board.columns, line.cells, strict=True):
            if cell is None:
                continue
            one, version = cell.result, cell.result.version
            settings = ", ".join(f"{name}={value}" for name, value in column.settings.items())
            names = (line.model.name, line.model.pk, line.model.checkpoint_id, one.run.method, one.metric)
            measured = (one.value, one.low, one.high, one.rows, cell.is_best, one.run_id, one.created_at.isoformat())
            change = (baseline.name if baseline else "", *(cell.change or ("",) * 4))
            found = (*names, version.dataset.name, version.number, settings, *measured, *change)
            yield [_harmless(value) for value in found]


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
