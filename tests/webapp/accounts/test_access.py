"""The gate in front of pages, and what an actor may reach."""

import uuid
from collections.abc import Callable

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from webapp.accounts.access import Actor
from webapp.accounts.models import Membership, Role, Team, User
from webapp.accounts.services import invitation_create
from webapp.errors import Forbidden, NotFound


def _silent(request: HttpRequest) -> HttpResponse:
    return HttpResponse("This view does not say who may call it.")


urlpatterns = [path("silent", _silent)]


@pytest.mark.urls(__name__)
def test_a_view_that_says_nothing_is_refused_to_everybody(admin: User) -> None:
    client = Client()
    for _ in range(2):
        with pytest.raises(ImproperlyConfigured, match="does not say who may call it"):
            client.get("/silent")
        client.force_login(admin)


def test_who_lacks_a_role_reads_which(team: Team, viewer: User, signed_in: Callable[[User], Client]) -> None:
    answer = signed_in(viewer).post(f"/team/{team.pk}/name", {"name": "Mine"})
    assert answer.status_code == 403
    assert "This needs the role admin." in answer.content.decode()


def test_an_actor_gets_what_its_teams_own(team: Team, other_team: Team, admin: User, outsider: User) -> None:
    own, _ = invitation_create(actor=Actor(admin), team=team, role=Role.VIEWER)
    foreign, _ = invitation_create(actor=Actor(outsider), team=other_team, role=Role.VIEWER)
    actor = Actor(admin)
    assert actor.get(type(own), str(own.pk), Role.ADMIN) == own
    for key in (foreign.pk, uuid.uuid4(), "nonsense", "", None, "\0"):
        with pytest.raises(NotFound, match="no such invitation"):
            actor.get(type(own), key)


def test_an_actor_of_too_small_a_role_is_told_both_roles(team: Team, member: User, admin: User) -> None:
    own, _ = invitation_create(actor=Actor(admin), team=team, role=Role.VIEWER)
    with pytest.raises(Forbidden, match="is member") as refusal:
        Actor(member).get(type(own), own.pk, Role.ADMIN)
    assert "the role admin" in refusal.value.advice


def test_the_present_team_is_the_chosen_one_if_one_is_in_it(team: Team, other_team: Team, member: User) -> None:
    Membership.objects.create(team=other_team, user=member, role=Role.VIEWER)
    assert Actor(member).team == team
    assert Actor(member, other_team.pk).team == other_team
    assert Actor(member, uuid.uuid4()).team == team
    assert Actor(member).team_ids(Role.MEMBER) == [team.pk]


def test_without_a_team_there_is_no_present_one(loner: User) -> None:
    assert Actor(loner).team is None
    assert not Actor(loner).holds(Role.VIEWER)
    with pytest.raises(Forbidden, match="not a member of any team"):
        _ = Actor(loner).current_team
