"""The leaderboard: which results stand in it, what is best, and how models differ."""

from typing import Any

import pytest

from tests.support.checkpoints import make_base_model
from tests.support.results import figure_of, make_results
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.evaluations.selectors import Filters, Leaderboard, Line
from webapp.runs.models import Project

HALF = [1.0, 0.0] * 20
MOST = [1.0, 0.0, 1.0, 1.0] * 10


def board_of(actor: Actor, team: Team, filters: Filters = Filters(), **options: str) -> Leaderboard:  # noqa: B008
    return Leaderboard(actor, team, filters, **options)


def names(lines: list[Line]) -> list[str]:
    return [line.model.name for line in lines]


def test_the_newest_result_of_each_model_stands_best_first(actor: Actor, team: Team) -> None:
    weak, strong = make_base_model(team, "weak"), make_base_model(team, "strong")
    make_results(team, weak, figure_of([1.0] * 40))
    make_results(team, weak, figure_of(HALF))
    make_results(team, strong, figure_of(MOST))
    board = board_of(actor, team)
    assert names(board.lines) == ["strong", "weak"]
    assert [[(cell.result.value, cell.is_best) for cell in line.cells if cell] for line in board.lines] == [
        [(0.75, True)],
        [(0.5, False)],
    ]
    assert names(board_of(actor, team, sort=f"-{board.columns[0].key}").lines) == ["weak", "strong"]
    assert names(board_of(actor, team, sort="-model").lines) == ["weak", "strong"]


def test_of_what_should_be_low_the_lowest_is_best(actor: Actor, team: Team) -> None:
    for name, loss in (("low", 1.0), ("high", 2.0)):
        make_results(team, make_base_model(team, name), figure_of([loss] * 3, "loss", "lower"), method="eval-loss")
    (best, other) = board_of(actor, team).lines
    assert (best.model.name, best.cells[0].is_best, other.cells[0].is_best) == ("low", True, False)


def test_differences_are_paired_where_the_rows_are_the_same(actor: Actor, team: Team) -> None:
    base, better, elsewhere = (make_base_model(team, name) for name in ("base", "better", "elsewhere"))
    make_results(team, base, figure_of(HALF))
    make_results(team, better, figure_of(MOST))
    make_results(team, elsewhere, figure_of(MOST, first=1000))
    lines = {line.model.name: line for line in board_of(actor, team, baseline=str(base.pk)).lines}
    assert lines["base"].is_baseline
    assert lines["base"].cells[0].change is None
    paired, unpaired = lines["better"].cells[0].change, lines["elsewhere"].cells[0].change
    assert (paired.value, paired.rows) == (0.25, 40)
    assert (unpaired.value, unpaired.rows) == (0.25, None)
    assert paired.high - paired.low < unpaired.high - unpaired.low
    assert (lines["better"].cells[0].verdict, lines["elsewhere"].cells[0].verdict) == ("better", "better")


def test_other_settings_are_other_columns_that_say_so(actor: Actor, team: Team) -> None:
    model = make_base_model(team)
    make_results(team, model, figure_of(HALF), config={"eval_rows": 7})
    make_results(team, model, figure_of(MOST), config={"eval_rows": 9})
    columns = board_of(actor, team).columns
    assert sorted(column.settings["eval_rows"] for column in columns) == [7, 9]
    assert {len(column.settings) for column in columns} == {1}


def test_filters_and_teams(actor: Actor, team: Team, other_team: Team) -> None:
    project = Project.objects.create(team=team, name="Other")
    one, two = make_base_model(team, "one"), make_base_model(team, "two")
    make_results(team, one, figure_of(HALF))
    make_results(team, two, figure_of([1.0] * 3, "loss", "lower"), method="eval-loss", project=project)
    make_results(other_team, make_base_model(other_team, "theirs"), figure_of(MOST))
    assert sorted(names(board_of(actor, team).lines)) == ["one", "two"]
    assert names(board_of(actor, team, Filters(project)).lines) == ["two"]
    assert names(board_of(actor, team, Filters(method="eval-accuracy")).lines) == ["one"]
    assert names(board_of(actor, team, Filters(dataset="none")).lines) == []
    with pytest.raises(Exception, match="no such team"):
        board_of(actor, other_team)


def test_many_models_cost_no_more_queries(actor: Actor, team: Team, django_assert_num_queries: Any) -> None:
    made = [make_base_model(team, f"model {number}") for number in range(6)]
    for model in made:
        make_results(team, model, figure_of(HALF), figure_of(MOST, "other"))
    assert actor.roles
    with django_assert_num_queries(2):
        board = board_of(actor, team, baseline=str(made[0].pk))
        assert sum(cell.change is not None for line in board.lines for cell in line.cells if cell) == 10
