"""Two teams, their people, and clients that act as them."""

from collections.abc import Callable

import pytest
from django.test import Client

from tests.support import factories
from tests.support.api import ApiClient, browser
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team, User
from webapp.accounts.services import token_create


@pytest.fixture
def team(db: None) -> Team:
    return factories.make_team("Red")


@pytest.fixture
def other_team(db: None) -> Team:
    return factories.make_team("Blue")


@pytest.fixture
def admin(team: Team) -> User:
    return factories.make_user("ada", team, Role.ADMIN)


@pytest.fixture
def member(team: Team) -> User:
    return factories.make_user("max", team, Role.MEMBER)


@pytest.fixture
def viewer(team: Team) -> User:
    return factories.make_user("vera", team, Role.VIEWER)


@pytest.fixture
def outsider(other_team: Team) -> User:
    """An admin of the other team, and nothing in `team`."""
    return factories.make_user("olaf", other_team, Role.ADMIN)


@pytest.fixture
def loner(db: None) -> User:
    """Somebody with an account and no team."""
    return factories.make_user("lone")


@pytest.fixture
def actor(member: User) -> Actor:
    """A member of `team`, as services take one."""
    return Actor(member)


@pytest.fixture
def api_of(db: None) -> Callable[[User], ApiClient]:
    """Makes an API client that sends a token of that user."""

    def make(user: User) -> ApiClient:
        return ApiClient(token_create(actor=Actor(user), name="test")[1])

    return make


@pytest.fixture
def api(api_of: Callable[[User], ApiClient], member: User) -> ApiClient:
    """The API client of a member of `team`."""
    return api_of(member)


@pytest.fixture
def signed_in() -> Callable[[User], Client]:
    """Makes a browser session of that user."""

    return browser


@pytest.fixture
def pages(signed_in: Callable[[User], Client], member: User) -> Client:
    """The browser session of a member of `team`."""
    return signed_in(member)
