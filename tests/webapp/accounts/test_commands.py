"""`api_token` and `sign_in_link`."""

import io
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client

from tests.support.factories import make_user
from webapp.accounts import selectors, services
from webapp.accounts.models import Membership, Role, Team, User
from webapp.settings import own_address


def _run(*args: Any, **options: Any) -> str:
    out = io.StringIO()
    call_command(*args, stdout=out, **options)
    return out.getvalue()


def test_a_token_is_printed_alone(member: User) -> None:
    printed = _run("api_token", "MAX")
    assert printed == printed.strip() + "\n"
    assert selectors.user_for_token(printed.strip()) == member


def test_an_unknown_user_is_an_error_that_names_the_way_out(db: None) -> None:
    with pytest.raises(CommandError, match="--create-admin"):
        _run("api_token", "nobody")
    assert not User.objects.exists()


def test_create_admin_makes_the_user_and_the_starter_team(db: None) -> None:
    for _ in range(2):
        user = selectors.user_for_token(_run("api_token", "root", create_admin=True).strip())
        assert user is not None
        assert Membership.objects.get(user=user).role == Role.ADMIN
    assert not user.has_usable_password()
    assert [team.name for team in Team.objects.all()] == ["Starter"]


def test_a_bad_name_is_told_with_the_rule(db: None) -> None:
    with pytest.raises(CommandError, match="letters, digits"):
        _run("api_token", "two words", create_admin=True)
    assert not Team.objects.exists()


def test_the_link_signs_the_named_user_in(db: None) -> None:
    make_user("grace")
    link = _run("sign_in_link", "Grace", address="https://studio.example/").strip()
    assert link.startswith("https://studio.example/welcome/")
    client = Client()
    assert client.post(urlsplit(link).path).url == "/welcome"
    assert client.get("/welcome").context["request"].actor.user.username == "grace"


def test_without_a_name_the_link_is_the_first_admin_s(team: Team, admin: User, member: User) -> None:
    path = urlsplit(_run("sign_in_link").strip()).path
    assert services.sign_in_link_use(token=path.rsplit("/", 1)[1]) == admin


def test_on_an_empty_studio_the_link_makes_the_first_admin(db: None) -> None:
    path = urlsplit(_run("sign_in_link").strip()).path
    assert services.sign_in_link_use(token=path.rsplit("/", 1)[1]) == selectors.first_admin()


def test_a_link_for_nobody_is_an_error(db: None) -> None:
    with pytest.raises(CommandError, match="no active user"):
        _run("sign_in_link", "nobody")


EVERYWHERE = "0.0.0.0"


@pytest.mark.parametrize(("host", "shown"), [(EVERYWHERE, "127.0.0.1"), ("studio.local", "studio.local")])
def test_the_link_follows_host_and_port(admin: User, monkeypatch: pytest.MonkeyPatch, host: str, shown: str) -> None:
    monkeypatch.setenv("HOST", host)
    monkeypatch.setenv("PORT", "9001")
    assert own_address() == f"http://{shown}:9001"
    assert _run("sign_in_link").startswith(f"{settings.PUBLIC_URL}/welcome/")
