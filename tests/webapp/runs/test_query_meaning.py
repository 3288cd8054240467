"""What a query asks of runs, asked of a real Postgres."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.support.api import ApiClient
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Project, Run, Status
from webapp.runs.query.meaning import runs_matching
from webapp.runs.query.syntax import QueryError
from webapp.runs.query.tree import FIELDS
from webapp.runs.query.vocabulary import vocabulary


def log(run: Run, **series: list[float]) -> None:
    for key, values in series.items():
        lines = [
            MetricLine(step, 1.79e9 + step, {key.replace("__", "/"): value}) for step, value in enumerate(values, 1)
        ]
        MetricWriter(run.pk).append(lines)


@pytest.fixture
def runs(team: Team, member: User) -> dict[str, Run]:
    """alpha and beta with settings and metrics; "lr=1e-4 (2)" with neither, and finished."""
    sums = Project.objects.create(team=team, name="Sums")
    lora = {"beta": 0.1, "adapter": {"type": "lora", "r": 16}, "loss": ["sigmoid", "sft"], "seed": None, "on": True}
    alpha = make_run(team, "alpha", method="dpo", project=sums, config=lora, tags=["baseline", "two words"], step=50)
    text = {"beta": "0.1", "adapter": {"type": "none", "r": 8}, "on": "true"}
    beta = make_run(team, "beta", config=text, created_by=member, status=Status.RUNNING, step=7)
    odd = make_run(team, "lr=1e-4 (2)", status=Status.FAILED, finished_at=datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    log(alpha, loss=[2.0, 0.3, 0.5], eval__loss=[1.0])
    log(beta, loss=[3.0, 2.0, float("nan")])
    Run.objects.filter(pk=alpha.pk).update(created_at=timezone.now() - timedelta(days=8))
    return {run.name: run for run in (alpha, beta, odd)}


def found(text: str) -> str:
    """The first letters of the runs that a query finds."""
    return "".join(sorted(run.name[0] for run in runs_matching(Run.objects.all(), text)))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "abl"),
        ("ALP", "a"),
        ("baseline", "a"),
        ("base", ""),
        ("dpo", "a"),
        ("alpha or beta", "ab"),
        ("not alpha", "bl"),
        ("not (alpha or beta)", "l"),
        ("lr=1e-4", "l"),
        ('"(2)"', "l"),
        ("name:et", "b"),
        ("name=et", ""),
        ("name=BETA", "b"),
        ("name!=beta", "al"),
        ("method:dpo", "a"),
        ("method:dpo,sft", "abl"),
        ("method!=dpo", "bl"),
        ("status:failed,running", "bl"),
        ("status:FAILED", "l"),
        ('tag:"two words"', "a"),
        ("tag:two", ""),
        ("not tag:baseline", "bl"),
        ("project:SUMS", "a"),
        ("model:bas dataset:row", "abl"),
        ("by:max", "b"),
        ("not by:max", "al"),
        ("by!=max", "al"),
        ("step>7", "a"),
        ("step>=7", "ab"),
        ("step>6.5", "ab"),
        ("step<=7.5", "bl"),
        ("step:7", "b"),
        ("step:7.5", ""),
        ("step!=7", "al"),
        ("step<1e30", "abl"),
        ("step>1e30", ""),
        ("created>7d", "a"),
        ("created<7d", "bl"),
        ("created<36500d", "abl"),
        ("finished:2026-01-31", "l"),
        ("finished>2026-01-31", ""),
        ("finished>=2026-01-31", "l"),
        ("finished<2026-01-31", ""),
        ("finished<=2026-01-31", "l"),
        ("finished!=2026-01-31", "ab"),
        ("not finished>2000-01-01", "ab"),
        ("finished:2026-01-31T23:59", "l"),
        ("loss<1", "a"),
        ("loss>1", ""),  # the newest of beta is NaN
        ("not loss<1", "bl"),
        ("loss.min<0.4", "a"),
        ("loss.min<=2", "ab"),
        ("loss.max>=3", "b"),
        ("loss.min=2", "b"),
        ("loss.min!=2", "a"),
        ("eval/loss>0.5", "a"),
        ("Loss<1", ""),
        ("config.beta>=0.1", "a"),  # the other's is text
        ("config.beta<0.1", ""),
        ("not config.beta>=0.1", "bl"),
        ("config.beta=0.1", "ab"),
        ("config.beta=0.10", "a"),
        ('config.beta="0.1"', "b"),
        ("config.beta!=0.1", "l"),
        ("config.adapter.type:lora", "a"),
        ("config.adapter.type:lora,none", "ab"),
        ("config.adapter.r>8", "a"),
        ("config.loss:sft", "a"),
        ("config.on=true", "ab"),
        ('config.on="true"', "b"),
        ("config.on>0", ""),
        ("config.seed=null", "abl"),
        ("config.adapter>0", ""),
        ("config.nothing.at.all=1", ""),
        ("method:dpo and config.beta>=0.1 and loss.min<0.4 and tag:baseline", "a"),
        ("(method:sft or tag:baseline) not status:failed", "ab"),
    ],
)
def test_a_query_finds_the_runs_it_is_true_of(runs: dict[str, Run], text: str, names: str) -> None:
    assert found(text) == names


ATOMS = (
    *(
        "alpha",
        "method:dpo",
        "status:failed",
        "tag:baseline",
        "project:sums",
        "model:b",
        "dataset:r",
        "by:max",
        "name=beta",
    ),
    *("created>7d", "finished<2026-02-01", "finished:2026-01-31", "step>7", "step:7.5", "config.beta>=0.1"),
    *("config.beta=0.1", "config.on!=true", "config.no.such:x", "loss<1", "loss.min!=2", "eval/loss.max>0"),
)


@pytest.mark.parametrize("atom", ATOMS)
def test_not_finds_the_rest(runs: dict[str, Run], atom: str) -> None:
    assert sorted(found(atom) + found(f"not ({atom})")) == list("abl")
    assert found(f"not not {atom}") == found(atom)


def test_and_or_and_not_are_those_of_sets(runs: dict[str, Run]) -> None:
    dice = random.Random(3)

    def make(depth: int) -> tuple[str, set[str]]:
        kind = dice.choice(("and", "or", "not")) if depth else "atom"
        if kind == "atom":
            atom = dice.choice(ATOMS)
            return atom, set(found(atom))
        text, names = make(depth - 1)
        if kind == "not":
            return f"not ({text})", set("abl") - names
        other, others = make(depth - 1)
        return f"({text}) {kind} ({other})", names & others if kind == "and" else names | others

    for _ in range(40):
        text, names = make(3)
        assert set(found(text)) == names, text


HOSTILE = (
    "' OR 1=1 --",
    "'; DROP TABLE runs_run; --",
    "\\' OR ''='",
    "%s%s",
    "%(x)s",
    "{beta}",
    "}'::jsonb",
    "$1",
    "/*",
    "a\\",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_looks_like_sql_is_text(runs: dict[str, Run], text: str) -> None:
    said = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    for query in (said, f"name:{said}", f"tag:{said}", f"config.beta={said}", f"{said}<1", f"by:{said},{said}"):
        assert found(query) == ""
    word = "".join(text.split())
    for query in (f"config.{word}=1", f"config.{word}>1", f"{word}.min<1", f"method:{word}"):
        try:
            assert found(query) == ""
        except QueryError as error:
            assert "at character" in error.message  # noqa: PT017 (either is right)
    assert Run.objects.count() == 3


def test_whatever_can_be_read_can_be_asked(runs: dict[str, Run]) -> None:
    dice = random.Random(11)
    subjects = [*FIELDS, "config.a.0", "config.-1", "loss", "x/y.max"]
    values = ["1", "-1e308", "1e-320", "x", "true", "7d", "0.001h", "36500d", "0001-01-01", "9999-12-30", '"%s\\" {}"']
    asked = 0
    for _ in range(1_500):
        query = f"{dice.choice(subjects)}{dice.choice((':', '=', '!=', '<', '<=', '>', '>='))}{dice.choice(values)}"
        try:
            assert set(found(query)) | set(found(f"not ({query})")) == set("abl"), query
            asked += 1
        except QueryError:
            continue
    assert 300 < asked < 1_200


def test_names_within_json_are_names_alone(runs: dict[str, Run], team: Team) -> None:
    make_run(team, "odd", config={"gt": 3, "0": 4, "a__b": 5, "list": ["x", "y"]})
    for query in ("config.gt=3", "config.0=4", "config.a__b=5", "config.list.1=y", "config.list=x"):
        assert found(query) == "o", query


def test_a_query_takes_one_statement(runs: dict[str, Run], django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        list(runs_matching(Run.objects.all(), "(loss<1 or config.beta=0.1) not tag:x by:max,ada created<7d"))


def test_the_api_takes_the_same_queries(api: ApiClient, runs: dict[str, Run]) -> None:
    answer = api.get("/runs", {"q": "config.beta>=0.1 or status:failed"})
    assert [run["name"] for run in answer.json()["items"]] == ["lr=1e-4 (2)", "alpha"]


def test_the_api_points_at_what_it_cannot_read(api: ApiClient, runs: dict[str, Run]) -> None:
    answer = api.get("/runs", {"q": "method:dpo config.beta>="})
    assert answer.status_code == 422
    error = answer.json()["error"]
    said = "config.beta>=: a number was expected after >=, at character 24"
    assert (error["code"], error["message"], error["fields"]) == ("query", said, {"q": [said]})


def test_what_is_offered_is_of_the_team_alone(actor: Actor, runs: dict[str, Run], other_team: Team) -> None:
    theirs = make_run(other_team, "theirs", method="kto", tags=["secret"], config={"hidden": 1})
    log(theirs, private=[1.0])
    known = vocabulary(actor)
    assert known.values["method"] == ["dpo", "sft"]
    assert known.values["tag"] == ["baseline", "two words"]
    assert known.values["by"] == ["max"]
    assert known.values["project"] == ["Experiments", "Sums"]
    assert known.metrics == ["eval/loss", "loss"]
    assert known.settings == ["adapter.r", "adapter.type", "beta", "loss", "on", "seed"]
