"""The list of runs: searching, filtering, sorting, paging, and doing one thing to many."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.runs import make_run
from tests.webapp.pages.runs.conftest import HTMX, NAN, line, log, text
from webapp.accounts.models import Team, User
from webapp.runs.models import Project, Run, Status

NAMES = re.compile(r'<a class="strong clip"[^>]*>([^<]*)</a>')


def names(client: Client, query: str = "") -> list[str]:
    return NAMES.findall(text(client.get(f"/runs/{query}", headers=HTMX)))


@pytest.fixture
def three(team: Team) -> list[Run]:
    """beta (dpo, loss 0.5), alpha (sft, loss 2, tagged), gamma (sft, failed, no loss)."""
    project = Project.objects.create(team=team, name="Sums")
    runs = [
        make_run(team, "beta", method="dpo", project=project),
        make_run(team, "alpha", tags=["baseline"], status=Status.RUNNING),
        make_run(team, "gamma", status=Status.FAILED),
    ]
    log(runs[0], loss=line(1, 0.5))
    log(runs[1], loss=line(3, 2))
    return runs


def test_an_empty_list_says_how_to_begin(pages: Client) -> None:
    shown = text(pages.get("/runs/"))
    assert "No runs yet" in shown
    assert "/runs/new" in shown


def test_a_row_shows_state_curve_and_newest_loss(pages: Client, three: list[Run]) -> None:
    shown = text(pages.get("/runs/"))
    for expected in ("Failed", 'class="sparkline run-', "0.5<", "Sums", "baseline"):
        assert expected in shown


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["gamma", "alpha", "beta"]),
        ("?status=failed", ["gamma"]),
        ("?method=sft", ["gamma", "alpha"]),
        ("?tag=baseline", ["alpha"]),
        ("?project=Sums", ["beta"]),
        ("?q=alph", ["alpha"]),
        ("?q=baseline", ["alpha"]),
        ("?q=dpo", ["beta"]),
        ("?q=method:dpo", ["beta"]),
        ("?q=method:dpo,sft+status:failed", ["gamma"]),
        ("?q=tag:baseline+loss<3", ["alpha"]),
        ("?q=loss<0.6", ["beta"]),
        ("?q=loss>=0.5", ["alpha", "beta"]),
        ("?q=project:sums", ["beta"]),
        ("?q=model:bas+dataset:row", ["gamma", "alpha", "beta"]),
        ("?q=by:nobody", []),
        ("?q=(alpha or status:failed) and not tag:baseline", ["gamma"]),
        ("?q=a%00lpha", ["alpha"]),
        ("?sort=name", ["alpha", "beta", "gamma"]),
        ("?sort=-name", ["gamma", "beta", "alpha"]),
        ("?sort=loss", ["beta", "alpha", "gamma"]),
        ("?sort=-loss", ["alpha", "beta", "gamma"]),
        ("?sort=created", ["beta", "alpha", "gamma"]),
        ("?sort=password", ["gamma", "alpha", "beta"]),
        ("?page=99", ["gamma", "alpha", "beta"]),
        ("?page=x", ["gamma", "alpha", "beta"]),
    ],
)
def test_the_address_holds_the_view(pages: Client, three: list[Run], query: str, expected: list[str]) -> None:
    assert names(pages, query) == expected


def test_a_loss_that_is_no_number_fits_no_condition(pages: Client, team: Team) -> None:
    log(make_run(team, "odd"), loss=[1.0, NAN])
    assert names(pages, "?q=loss<5") == []
    assert names(pages, "?q=loss>5") == []
    assert "NaN" in text(pages.get("/runs/"))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?status=lost", "There is no status lost"),
        ("?q=status:lost", "there are queued, starting"),
        ("?q=loss<low", "loss&lt;: a number was expected after &lt;, at character 6"),
        ("?q=loss<" + "1" * 400 + "x", "a number was expected"),
        ("?q=" + "x" * 1001, "a query has at most 1,000 characters"),
    ],
)
def test_a_condition_that_makes_no_sense_is_explained(pages: Client, three: list[Run], query: str, said: str) -> None:
    shown = text(pages.get(f"/runs/{query}"))
    assert said in shown
    assert "gamma" not in NAMES.findall(shown)


def test_what_cannot_be_read_is_pointed_at_beside_the_box_and_stays_in_it(pages: Client, three: list[Run]) -> None:
    shown = text(pages.get("/runs/?q=alpha and loss<low"))
    assert "<code>alpha and loss&lt;<mark>low</mark></code>" in shown
    assert 'value="alpha and loss&lt;low"' in shown
    # While somebody types the table is left alone, and the problem goes when there is none.
    answer = pages.get("/runs/?q=loss<", headers=HTMX)
    assert answer.headers["HX-Reswap"] == "none"
    assert 'id="runs-query-problem"' in text(answer)
    assert "runs-table" not in text(answer)
    good = text(pages.get("/runs/?q=loss<9", headers={**HTMX, "HX-Trigger": "runs-filter"}))
    assert re.search(r'id="runs-query-problem"[^>]* hx-swap-oob="true"></div>', good)
    # The table's own refreshing does not touch what is being typed.
    assert "runs-query-problem" not in text(pages.get("/runs/", headers={**HTMX, "HX-Trigger": "runs-table"}))


def test_words_to_complete_are_served(pages: Client, three: list[Run]) -> None:
    known = pages.get("/runs/words").json()
    assert {"name": "method", "kind": "text", "says": "the method, as in method:dpo,kto"} in known["fields"]
    assert known["values"]["tag"] == ["baseline"]
    assert known["metrics"] == ["loss"]


# --- columns ----------------------------------------------------------------------------------------------------------

HEADS = re.compile(r'<th class="[^"]*"[^>]* title="([^"]*)"')


@pytest.fixture
def tried(team: Team) -> list[Run]:
    """Runs whose setting `beta` and metric `eval/loss` differ; the last has neither."""
    made = [
        make_run(team, "low", config={"beta": 0.05, "adapter": {"type": "lora"}, "loss": ["sigmoid", "sft"]}),
        make_run(team, "high", config={"beta": 10, "adapter": {"type": "none"}}),
        make_run(team, "none"),
    ]
    log(made[0], eval__loss=[3.0, 1.25, 2.0])
    log(made[1], eval__loss=[1.0, NAN])
    return made


def test_columns_are_those_of_the_address_in_its_order(pages: Client, tried: list[Run]) -> None:
    columns = ["eval/loss.min", "config.beta", "state", "config.loss", "config.adapter.type", "eval/loss.last"]
    shown = text(pages.get("/runs/", {"column": columns}))
    assert HEADS.findall(shown) == ["name", *columns]
    row = shown[shown.index(">low</a>") :].split("</tr>")[0]
    values = re.findall(r'<td class="value-column"><span[^>]*>([^<]*)</span>', row)
    assert values == ["1.25", "0.05", "sigmoid, sft", "lora", "2"]
    # The address goes on to hold them.
    assert shown.count('name="column" value=') == 6
    assert "column=eval%2Floss.min&amp;column=config.beta" in shown


@pytest.mark.parametrize("query", ["", "?column=", "?column=password&column=config.&column=.min&column=name"])
def test_without_columns_of_its_own_the_address_shows_the_usual_ones(
    pages: Client, tried: list[Run], query: str
) -> None:
    assert HEADS.findall(text(pages.get(f"/runs/{query}"))) == ["name", "state", "loss", "method", "dataset", "created"]


def test_columns_are_bounded_and_each_is_there_once(pages: Client, tried: list[Run]) -> None:
    query = "&".join(f"column=config.c{number}" for number in [*range(60), 1, 2])
    assert len(HEADS.findall(text(pages.get(f"/runs/?{query}")))) == 1 + 30


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("config.beta", ["low", "high", "none"]),
        ("-config.beta", ["high", "low", "none"]),
        ("config.adapter.type", ["low", "high", "none"]),
        ("eval/loss.min", ["high", "low", "none"]),
        ("-eval/loss.max", ["low", "high", "none"]),
        ("eval/loss.last", ["low", "none", "high"]),  # NaN is no value
        ("-eval/loss.last", ["low", "none", "high"]),
        ("config.' OR 1=1", ["none", "high", "low"]),
        ("config.%s.{x}", ["none", "high", "low"]),
        ("config.", ["none", "high", "low"]),
        ("state", ["none", "high", "low"]),
        ("method", ["none", "high", "low"]),
        ("-step", ["none", "high", "low"]),
        ("-finished", ["none", "high", "low"]),
    ],
)
def test_every_column_sorts_and_runs_without_a_value_come_last(
    pages: Client, tried: list[Run], sort: str, expected: list[str]
) -> None:
    client_query = pages.get("/runs/", {"sort": sort}, headers=HTMX)
    assert NAMES.findall(text(client_query)) == expected


def test_columns_of_figures_take_one_query_more(pages: Client, tried: list[Run]) -> None:
    def count(query: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            pages.get(f"/runs/{query}", headers=HTMX)
        return len(queries)

    pages.get("/runs/")
    usual = count("")
    assert count("?column=config.beta&column=config.adapter.type") == usual
    assert count("?column=eval/loss.min&column=eval/loss.max&column=loss.last&sort=eval/loss.min") == usual + 1


def test_filters_in_force_are_chips_that_can_be_taken_out(pages: Client, three: list[Run]) -> None:
    shown = text(pages.get("/runs/?status=failed&q=gamma+loss<4&sort=name&page=2"))
    chips = re.findall(r'<li class="chip">([^<]*(?:&lt;)?[^<]*)<a href="\?([^"]*)"', shown)
    assert [label for label, _ in chips] == ["status: failed", "gamma", "loss&lt;4"]
    assert [address.replace("&amp;", "&") for _, address in chips] == [
        "q=gamma+loss%3C4&sort=name",
        "status=failed&sort=name&q=loss%3C4",
        "status=failed&sort=name&q=gamma",
    ]
    assert "No run fits" in shown


def test_the_project_in_the_top_bar_narrows_the_list_until_it_is_taken_out(pages: Client, three: list[Run]) -> None:
    pages.post("/project", {"project": str(three[0].project.pk)})
    assert names(pages) == ["beta"]
    shown = text(pages.get("/runs/"))
    assert "project: Sums" in shown
    assert len(names(pages, "?project=")) == 3


def test_long_lists_have_pages(pages: Client, team: Team) -> None:
    for number in range(60):
        make_run(team, f"run {number:02}")
    shown = text(pages.get("/runs/?sort=name"))
    assert "1 to 50 of 60" in shown
    assert "?sort=name&amp;page=2" in shown
    assert names(pages, "?sort=name&page=2") == [f"run {number}" for number in range(50, 60)]


def test_fifty_runs_take_as_many_queries_as_one(pages: Client, team: Team, django_assert_num_queries: Any) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            pages.get("/runs/?sort=loss&q=loss<9", headers=HTMX)
        return len(queries)

    log(make_run(team, "first"), loss=line(2, 1))
    pages.get("/runs/")
    one = count()
    for number in range(49):
        run = make_run(team, f"run {number}", tags=[f"t{number}"])
        log(run, loss=line(2, 1), eval__loss=line(2, 1))
    assert count() == one
    assert one <= 12


def test_the_runs_of_others_are_not_listed(pages: Client, other_team: Team) -> None:
    make_run(other_team, "theirs")
    assert names(pages) == []


def test_a_viewer_selects_nothing(signed_in: Callable[[User], Client], viewer: User, three: list[Run]) -> None:
    shown = text(signed_in(viewer).get("/runs/"))
    assert "data-select" not in shown
    assert "/runs/new" not in shown


# --- many at once -----------------------------------------------------------------------------------------------------


def many(client: Client, action: str, runs: list[Run], **more: str) -> Any:
    return client.post("/runs/selected", {"action": action, "run": [run.pk for run in runs], **more}, follow=True)


def test_selected_runs_are_tagged(pages: Client, three: list[Run]) -> None:
    answer = many(pages, "tag", three, tag=" night ", next="/runs/?q=alpha")
    assert "3 runs tagged" in text(answer)
    assert answer.redirect_chain == [("/runs/?q=alpha", 302)]
    assert [set(run.tags) for run in Run.objects.order_by("pk")] == [{"night"}, {"night", "baseline"}, {"night"}]
    assert "Type a tag first" in text(many(pages, "tag", three, tag=" "))


def test_selected_runs_are_stopped_and_those_that_cannot_be_are_named(pages: Client, three: list[Run]) -> None:
    shown = text(many(pages, "stop", three))
    assert "2 of 3 runs asked to stop" in shown
    assert "1 not asked to stop (gamma): The run is failed" in shown


def test_selected_runs_are_deleted_where_that_is_allowed(pages: Client, three: list[Run], member: User) -> None:
    Run.objects.update(created_by=member)
    shown = text(many(pages, "delete", three))
    assert "2 of 3 runs deleted" in shown
    assert "1 not deleted (alpha): The run is being worked on. Stop it first." in shown
    assert Run.objects.get().name == "alpha"


def test_runs_of_somebody_else_are_counted_and_left_alone(pages: Client, team: Team, member: User) -> None:
    runs = [make_run(team, f"run {n}", created_by=member if n == 0 else None) for n in range(8)]
    shown = text(many(pages, "delete", runs))
    assert "1 of 8 runs deleted" in shown
    assert "7 not deleted (run 7, run 6, run 5, run 4, run 3 and 2 more): The run is somebody else&#x27;s." in shown
    assert Run.objects.count() == 7


def test_selected_runs_are_moved_to_a_project(pages: Client, team: Team, three: list[Run]) -> None:
    project = Project.objects.create(team=team, name="Night")
    assert "Choose a project first" in text(many(pages, "move", three, project=""))
    assert "3 runs moved" in text(many(pages, "move", three, project=str(project.pk)))
    assert project.runs.count() == 3
    project.refresh_from_db()
    assert not project.retention_due


def test_moving_deletes_no_checkpoints_of_somebody_else_s(
    pages: Client, signed_in: Callable[[User], Client], admin: User, member: User, team: Team
) -> None:
    project = Project.objects.create(team=team, name="Sparing", keep_last=1)
    mine, theirs = make_run(team, "mine", created_by=member), make_run(team, "theirs", created_by=admin)
    shown = text(many(pages, "move", [mine, theirs], project=str(project.pk)))
    assert "1 of 2 runs moved" in shown
    assert "1 not moved (theirs): The run is somebody else&#x27;s, and Sparing keeps but 1 of each run" in shown
    assert [run.name for run in project.runs.all()] == ["mine"]
    project.refresh_from_db()
    assert project.retention_due
    assert "1 run moved" in text(many(signed_in(admin), "move", [theirs], project=str(project.pk)))


def test_no_run_is_moved_to_a_project_of_others(pages: Client, other_team: Team, three: list[Run]) -> None:
    theirs = Project.objects.create(team=other_team, name="Theirs")
    assert many(pages, "move", three, project=str(theirs.pk)).status_code == 404
    assert many(pages, "move", three, project="x").status_code == 404
    assert not theirs.runs.exists()


def test_selected_runs_are_compared(pages: Client, three: list[Run]) -> None:
    answer = pages.post("/runs/selected", {"action": "compare", "run": [run.pk for run in three[:2]]})
    assert answer.status_code == 302
    assert answer.url.startswith("/compare/?run=")  # type: ignore[attr-defined]
    assert all(str(run.pk) in answer.url for run in three[:2])  # type: ignore[attr-defined]


@pytest.mark.parametrize(("body", "status"), [({"action": "stop"}, 302), ({"action": "stop", "run": "x"}, 404)])
def test_a_selection_of_nothing_does_nothing(pages: Client, body: dict[str, str], status: int) -> None:
    assert pages.post("/runs/selected", body).status_code == status


def test_a_deed_that_is_none_is_refused(pages: Client, three: list[Run]) -> None:
    assert many(pages, "sell", three).status_code == 404


def test_runs_of_others_are_left_alone(pages: Client, other_team: Team) -> None:
    theirs = make_run(other_team, "theirs")
    many(pages, "stop", [theirs])
    theirs.refresh_from_db()
    assert theirs.status == Status.QUEUED


def test_afterwards_nobody_is_led_off_the_site(pages: Client, three: list[Run]) -> None:
    answer = pages.post("/runs/selected", {"action": "stop", "run": three[0].pk, "next": "https://evil.example/"})
    assert answer.headers["Location"] == "/runs/"
