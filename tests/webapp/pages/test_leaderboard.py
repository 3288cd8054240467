"""The leaderboard as a page and as a file, results on the pages of models, and the way to measure one."""

import csv
import io
from typing import Any

from django.test import Client

from tests.support.checkpoints import make_base_model, make_checkpoint
from tests.support.results import figure_of, make_results
from tests.webapp.pages.runs.conftest import HTMX, text
from webapp.accounts.models import Team
from webapp.registry.models import BaseModel, ModelSource

HALF, MOST = [1.0, 0.0] * 10, [1.0, 0.0, 1.0, 1.0] * 5


def test_an_empty_leaderboard_says_what_to_do(pages: Client, team: Team) -> None:
    shown = text(pages.get("/leaderboard/"))
    assert "Nothing is measured yet" in shown
    assert "/runs/new?method=eval-accuracy" in shown


def test_the_address_holds_the_view(pages: Client, team: Team) -> None:
    base, other = make_base_model(team, "base"), make_base_model(team, "other")
    make_results(team, base, figure_of(HALF))
    make_results(team, other, figure_of(MOST))
    shown = text(pages.get(f"/leaderboard/?project=Experiments&baseline={base.pk}", headers=HTMX))
    for expected in ("0.75", "best", "baseline", "+0.25", "paired", "same 20 rows", "v1"):
        assert expected in shown, expected
    assert "<html" not in shown
    assert "No result fits" in text(pages.get("/leaderboard/?method=eval-loss"))
    assert "Nothing is measured yet" not in text(pages.get("/leaderboard/?project=none"))
    assert pages.get("/leaderboard/?sort=colour&baseline=x&dataset=%00").status_code == 200


def test_more_models_cost_no_more_queries(pages: Client, team: Team, django_assert_max_num_queries: Any) -> None:
    made = [make_base_model(team, f"model {number}") for number in range(12)]
    for model in made:
        make_results(team, model, figure_of(HALF))
    with django_assert_max_num_queries(12):
        assert "model 11" in text(pages.get(f"/leaderboard/?baseline={made[0].pk}"))


def test_the_file_has_a_line_for_each_figure(pages: Client, team: Team) -> None:
    base, other = make_base_model(team, "base"), make_base_model(team, "=other()")
    make_results(team, base, figure_of(HALF))
    make_results(team, other, figure_of(MOST))
    answer = pages.get(f"/leaderboard/csv?baseline={base.pk}")
    assert answer["Content-Disposition"] == 'attachment; filename="leaderboard.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [(row["model"], row["value"], row["best"]) for row in rows] == [
        ("'=other()", "0.75", "True"),
        ("base", "0.5", "False"),
    ]
    assert (rows[0]["baseline"], rows[0]["difference"], rows[0]["rows_compared"]) == ("base", "0.25", "20")
    assert rows[1]["difference"] == ""


def test_a_model_s_page_shows_its_results_and_how_to_measure_it(pages: Client, team: Team) -> None:
    starter = BaseModel.objects.create(name="starter", source=ModelSource.STARTER)
    page = text(pages.get(f"/models/{starter.pk}"))
    assert "Not measured yet" in page
    assert "/runs/new?method=eval-accuracy&amp;model=starter" in page
    make_results(team, starter, figure_of(HALF))
    shown = text(pages.get(f"/models/{starter.pk}", headers=HTMX))
    for expected in ("accuracy", "0.5", "95 % interval", "rows"):
        assert expected in shown
    checkpoint = make_checkpoint(team)
    assert f"model={checkpoint.pk}" in text(pages.get(f"/models/checkpoints/{checkpoint.pk}"))


def test_an_evaluation_is_launched_like_a_run_without_a_held_out_set(pages: Client, team: Team) -> None:
    shown = text(pages.get("/runs/new?method=eval-accuracy"))
    assert 'id="method-eval-accuracy" value="eval-accuracy" aria-describedby="about-eval-accuracy" checked' in shown
    assert '<select id="eval_dataset"' not in shown
    assert "What it measures" in text(pages.get("/methods/eval-accuracy"))
