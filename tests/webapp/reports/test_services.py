"""Writing reports: versions that are never changed, and two people at one text."""

from typing import Any

import pytest

from tests.support import factories
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, Role, Team, User
from webapp.errors import Forbidden, Invalid, NotFound, SavedMeanwhile
from webapp.reports import rules, services
from webapp.reports.models import Report, ReportVersion
from webapp.runs.models import Project


@pytest.fixture
def project(team: Team) -> Project:
    return make_run(team).project


@pytest.fixture
def report(actor: Actor, project: Project) -> Report:
    return services.report_create(actor=actor, project=project, title="  Late \n layers ", body="one\r\ntwo")


def rows(report: Report) -> list[tuple[int, str, str]]:
    return list(report.versions.order_by("number").values_list("number", "title", "body"))


def test_each_saving_makes_a_version(actor: Actor, report: Report) -> None:
    services.report_save(actor=actor, report=report, base=1, body="three")
    services.report_save(actor=actor, report=report, base=2, title="Later layers")
    assert rows(report) == [
        (1, "Late layers", "one\ntwo"),
        (2, "Late layers", "three"),
        (3, "Later layers", "three"),
    ]
    report.refresh_from_db()
    assert (report.title, report.number) == ("Later layers", 3)
    assert AuditEvent.objects.filter(verb__startswith="report.").count() == 3


def test_what_is_as_it_was_makes_no_version(actor: Actor, report: Report) -> None:
    services.report_save(actor=actor, report=report, base=1, title="Late layers", body="one\r\ntwo")
    assert len(rows(report)) == 1


def test_whoever_saves_second_overwrites_nothing(actor: Actor, team: Team, report: Report) -> None:
    other = Actor(factories.make_user("mia", team))
    services.report_save(actor=other, report=report, base=1, body="theirs")
    with pytest.raises(SavedMeanwhile, match="Mia has saved version 2 meanwhile") as caught:
        services.report_save(actor=actor, report=report, base=1, body="mine")
    assert caught.value.theirs.body == "theirs"
    assert len(rows(report)) == 2
    # The same text twice, as a double click sends it, is no conflict.
    services.report_save(actor=actor, report=report, base=1, body="theirs")
    services.report_save(actor=actor, report=report, base=2, body="both")
    assert rows(report)[-1] == (3, "Late layers", "both")


def test_an_old_version_comes_back_as_the_newest(actor: Actor, report: Report) -> None:
    services.report_save(actor=actor, report=report, base=1, body="worse")
    report.refresh_from_db()
    services.report_restore(actor=actor, report=report, number=1)
    assert [body for _, _, body in rows(report)] == ["one\ntwo", "worse", "one\ntwo"]
    report.refresh_from_db()
    with pytest.raises(Invalid):
        services.report_restore(actor=actor, report=report, number=9)


def test_old_versions_make_room(actor: Actor, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "KEPT_VERSIONS", 3)
    for number in range(1, 6):
        services.report_save(actor=actor, report=report, base=number, body=str(number))
    assert [number for number, _, _ in rows(report)] == [4, 5, 6]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": " \n"}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "a\x00b"}, "title"),
        ({"body": "x" * (rules.MAX_BODY + 1)}, "body"),
        ({"body": "a\x00b"}, "body"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_written(
    actor: Actor, project: Project, report: Report, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        services.report_save(actor=actor, report=report, base=1, **values)
    assert list(caught.value.fields) == [field]
    with pytest.raises(Invalid):
        services.report_create(actor=actor, project=project, **{"title": "new", **values})
    assert ReportVersion.objects.count() == Report.objects.count() == 1


def test_only_members_write(viewer: User, outsider: User, project: Project, report: Report) -> None:
    for user, error in ((viewer, Forbidden), (outsider, NotFound)):
        actor = Actor(user)
        with pytest.raises(error):
            services.report_create(actor=actor, project=project, title="new")
        with pytest.raises(error):
            services.report_save(actor=actor, report=report, base=1, body="x")
        with pytest.raises(error):
            services.report_delete(actor=actor, report=report)
    assert len(rows(report)) == 1


def test_a_report_goes_with_its_history(actor: Actor, report: Report) -> None:
    assert actor.holds(Role.MEMBER, report.team_id)
    services.report_delete(actor=actor, report=report)
    assert not Report.objects.exists()
    assert not ReportVersion.objects.exists()
