"""Saved views of the list of runs: whose they are, what they hold, and what a list begins with."""

from collections.abc import Callable

import pytest

from tests.support import factories
from tests.support.api import ApiClient
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team, User
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from webapp.runs.models import DefaultRunView, RunView
from webapp.runs.query.syntax import QueryError
from webapp.runs.run_views import (
    MAX_VIEWS,
    ViewState,
    view_create,
    view_delete,
    view_get,
    view_set_default,
    view_update,
    views_visible,
)

STATE = ViewState("loss<1", {"status": "failed"}, ("config.beta", "loss.min"), "-config.beta")


@pytest.fixture
def mate(team: Team) -> Actor:
    """Another member of the team."""
    return Actor(factories.make_user("mia", team))


def names(actor: Actor) -> list[str]:
    return [view.name for view in views_visible(actor)]


def test_a_view_is_its_owner_s_alone_until_it_is_shared(actor: Actor, mate: Actor, outsider: User) -> None:
    view = view_create(actor=actor, name=" mine ", state=STATE)
    assert ViewState.of(view) == STATE
    assert (names(actor), names(mate)) == (["mine"], [])
    with pytest.raises(NotFound):
        view_get(mate, view.pk)
    view_update(actor=actor, view=view, shared=True)
    assert names(mate) == ["mine"]
    with pytest.raises(NotFound):
        view_get(Actor(outsider), view.pk)


def test_a_shared_view_is_changed_by_its_owner_and_by_admins(actor: Actor, mate: Actor, admin: User) -> None:
    view = view_create(actor=actor, name="team", state=STATE, shared=True)
    for deed in (
        lambda: view_update(actor=mate, view=view, name="theirs"),
        lambda: view_delete(actor=mate, view=view),
        lambda: view_update(actor=Actor(admin), view=view, shared=False),
    ):
        with pytest.raises(Forbidden):
            deed()
    view_update(actor=Actor(admin), view=view, name="renamed")
    view_delete(actor=Actor(admin), view=view)
    assert not RunView.objects.exists()


def test_viewers_have_views_of_their_own_and_share_none(viewer: User) -> None:
    view = view_create(actor=Actor(viewer), name="mine", state=STATE)
    with pytest.raises(Forbidden):
        view_create(actor=Actor(viewer), name="ours", state=STATE, shared=True)
    with pytest.raises(Forbidden):
        view_update(actor=Actor(viewer), view=view, shared=True)
    view_delete(actor=Actor(viewer), view=view)


def test_a_list_begins_with_one_view_at_most(actor: Actor, mate: Actor) -> None:
    first, second = (view_create(actor=actor, name=name, state=STATE, shared=True) for name in ("a", "b"))
    for view in (first, second):
        view_set_default(actor=actor, view=view)
    view_set_default(actor=mate, view=second)
    assert [(view.name, view.is_default) for view in views_visible(actor)] == [("a", False), ("b", True)]
    view_update(actor=actor, view=second, shared=False)  # what is taken back begins nobody else's list
    assert [one.user for one in DefaultRunView.objects.all()] == [actor.user]
    view_delete(actor=actor, view=second)
    assert not DefaultRunView.objects.exists()


def test_names_are_unique_among_the_team_s_and_among_one_s_own(actor: Actor, mate: Actor) -> None:
    view_create(actor=actor, name="night", state=STATE)
    view_create(actor=mate, name="night", state=STATE)
    view_create(actor=actor, name="night", state=STATE, shared=True)
    for shared, said in ((False, "You have"), (True, "The team has")):
        with pytest.raises(Conflict, match=said):
            view_create(actor=actor, name="NIGHT", state=STATE, shared=shared)


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
def test_a_name_is_needed(actor: Actor, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        view_create(actor=actor, name=name, state=STATE)
    assert refused.value.fields == {"name": ["must have 1 to 100 characters"]}


@pytest.mark.parametrize(
    ("state", "error", "field"),
    [
        (ViewState("loss<"), QueryError, "q"),
        (ViewState(filters={"password": "x"}), Invalid, "filters"),
        (ViewState(filters={"tag": "x" * 201}), Invalid, "filters"),
        (ViewState(columns=["c"] * 31), Invalid, "columns"),
        (ViewState(columns=["c" * 251]), Invalid, "columns"),
        (ViewState(sort="c" * 251), Invalid, "sort"),
    ],
)
def test_what_no_list_could_show_is_not_kept(actor: Actor, state: ViewState, error: type[Invalid], field: str) -> None:
    with pytest.raises(error) as refused:
        view_create(actor=actor, name="bad", state=state)
    assert set(refused.value.fields) == {field}
    assert not RunView.objects.exists()


def test_there_are_so_many_and_no_more(actor: Actor, team: Team) -> None:
    RunView.objects.bulk_create(RunView(team=team, owner=actor.user, name=str(n)) for n in range(MAX_VIEWS))
    with pytest.raises(Conflict, match=f"{MAX_VIEWS} views already"):
        view_create(actor=actor, name="one more", state=STATE)


def test_views_over_the_api(api: ApiClient, api_of: Callable[[User], ApiClient], viewer: User) -> None:
    sent = {"name": "night", "query": "tag:x", "columns": ["config.beta"], "sort": "-created", "shared": True}
    made = api.post("/run-views", sent)
    assert made.status_code == 201
    path = f"/run-views/{made.json()['id']}"
    assert made.json() == {"id": made.json()["id"], "owner": "max", "default": False, "filters": {}, **sent}
    changed = api.patch(path, {"query": "tag:y", "default": True}).json()
    assert (changed["query"], changed["columns"], changed["default"]) == ("tag:y", ["config.beta"], True)
    assert [view["default"] for view in api.get("/run-views").json()["items"]] == [True]
    assert [view["default"] for view in api_of(viewer).get("/run-views").json()["items"]] == [False]
    assert api_of(viewer).patch(path, {"name": "no"}).status_code == 403
    assert api_of(viewer).patch(path, {"default": True}).status_code == 200
    refused = api.patch(path, {"query": "loss<"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "query")
    assert api.post("/run-views", sent).status_code == 409
    assert api.delete(path).status_code == 204
    assert api.get("/run-views").json()["items"] == []


def test_a_role_that_is_gone_changes_no_shared_view(actor: Actor, team: Team, member: User) -> None:
    view = view_create(actor=actor, name="team", state=STATE, shared=True)
    team.memberships.filter(user=member).update(role=Role.VIEWER)
    with pytest.raises(Forbidden):
        view_update(actor=Actor(member), view=view, name="x")
