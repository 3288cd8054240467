"""Signing in and out, one-time links and invitations, in the browser's terms."""

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from tests.support.factories import PASSWORD, make_user
from webapp.accounts import services
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, SignInLink, Team, User

SignedIn = Callable[[User], Client]


def _credentials(**changes: str) -> dict[str, str]:
    return {"username": "grace", "password": PASSWORD, **changes}


def _is_signed_in(client: Client) -> bool:
    return client.get("/account").status_code == 200


def test_name_and_password_lead_to_where_one_was_going(db: None, client: Client) -> None:
    make_user("grace")
    asked = client.get("/team?tab=x")
    assert (asked.status_code, asked.url) == (302, "/sign-in?next=/team%3Ftab%3Dx")
    page = client.get(asked.url)
    assert 'value="/team?tab=x"' in page.content.decode()
    answer = client.post("/sign-in", _credentials(username="GRACE", next="/team?tab=x"))
    assert (answer.status_code, answer.url) == (302, "/team?tab=x")
    assert client.get("/team").status_code == 200


@pytest.mark.parametrize(
    "wrong", [{"password": "wrong"}, {"username": "nobody"}, {"username": ""}, {"username": "a\0b"}, {"password": ""}]
)
def test_wrong_credentials_stay_on_the_page_and_show_no_password(
    db: None, client: Client, wrong: dict[str, str]
) -> None:
    make_user("grace")
    answer = client.post("/sign-in", _credentials(**wrong))
    assert answer.status_code == 422
    assert answer.context["form"].errors
    assert PASSWORD not in answer.content.decode()
    assert not _is_signed_in(client)


def test_an_unknown_name_and_a_wrong_password_read_the_same(db: None, client: Client) -> None:
    make_user("grace")
    answers = [client.post("/sign-in", _credentials(**wrong)) for wrong in ({"username": "x"}, {"password": "x"})]
    assert answers[0].context["form"].errors == answers[1].context["form"].errors


def test_the_eleventh_attempt_waits(db: None, client: Client) -> None:
    make_user("grace")
    for _ in range(10):
        assert client.post("/sign-in", _credentials(password="wrong")).status_code == 422
    refused = client.post("/sign-in", _credentials())
    assert refused.status_code == 429
    assert "Try again in 15 min" in refused.content.decode()
    elsewhere = Client(REMOTE_ADDR="10.9.8.7")
    assert elsewhere.post("/sign-in", _credentials()).status_code == 302


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "http:evil.example",
        "javascript:alert(1)",
        "https://testserver@evil.example/",
        "\x08//evil.example",
    ],
)
def test_next_never_leads_to_another_site(db: None, client: Client, target: str) -> None:
    make_user("grace")
    assert client.get("/sign-in", {"next": target}).context["next"] == "/"
    answer = client.post("/sign-in", _credentials(next=target))
    assert (answer.status_code, answer.url) == (302, "/")
    assert client.get("/sign-in", {"next": target}).url == "/"


def test_the_session_key_changes_at_sign_in(db: None, client: Client) -> None:
    make_user("grace")
    session = client.session
    session["planted"] = True
    session.save()
    before = session.session_key
    client.post("/sign-in", _credentials())
    assert client.session.session_key != before
    thief = Client()
    thief.cookies["sessionid"] = before
    assert not _is_signed_in(thief)


def test_the_session_cookie_is_out_of_scripts_reach(db: None, client: Client) -> None:
    make_user("grace")
    cookie = client.post("/sign-in", _credentials()).cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/team/new", "/account/password", "/welcome/x", "/join/x"])
def test_forms_of_other_sites_are_refused(team: Team, admin: User, path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    assert client.post(path, _credentials()).status_code == 403


def test_signing_out_takes_a_post_and_ends_the_session(member: User, signed_in: SignedIn) -> None:
    client = signed_in(member)
    key = client.session.session_key
    assert client.get("/sign-out").status_code == 405
    assert _is_signed_in(client)
    assert client.post("/sign-out").url == "/sign-in"
    client.cookies["sessionid"] = key
    assert not _is_signed_in(client)


def test_a_fragment_s_request_takes_the_whole_page_to_sign_in(db: None, client: Client) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/runs?q=x"}
    answer = client.get("/team", headers=headers)
    assert (answer.status_code, answer["HX-Redirect"]) == (401, "/sign-in?next=/runs%3Fq%3Dx")


def test_only_the_button_spends_a_sign_in_link(client: Client, team: Team) -> None:
    user = make_user("grace", team, Role.ADMIN)
    path = reverse("sign-in-link", args=[services.sign_in_link_create(user=user)])
    for _ in range(2):
        assert client.get(path).status_code == 200
        client.head(path)
    assert SignInLink.objects.get().used_at is None
    assert client.get(path)["Cache-Control"].count("no-store")
    assert client.post(path).url == "/welcome"
    assert _is_signed_in(client)
    assert Client().post(path).status_code == 404


def test_a_spent_link_signs_nobody_in_and_says_what_to_do(db: None, client: Client) -> None:
    answer = client.post("/welcome/nonsense")
    assert answer.status_code == 404
    assert "manage.py sign_in_link" in answer.content.decode()
    assert not _is_signed_in(client)


def test_a_sign_in_link_replaces_the_session_of_somebody_else(team: Team, member: User, signed_in: SignedIn) -> None:
    client = signed_in(member)
    grace = make_user("grace", team)
    client.post(reverse("sign-in-link", args=[services.sign_in_link_create(user=grace)]))
    assert client.get("/account").context["request"].actor.user == grace


def test_who_came_by_a_link_sets_name_and_password_once(client: Client, team: Team) -> None:
    user = make_user("grace", team)
    client.post(reverse("sign-in-link", args=[services.sign_in_link_create(user=user)]))
    refused = client.post("/welcome", {"full_name": "Grace", "password": "short"})
    assert refused.status_code == 422
    assert "password" in refused.context["form"].errors
    new = "a new and longer phrase"
    assert client.post("/welcome", {"full_name": "Grace Hopper", "password": new}).url == "/"
    assert _is_signed_in(client)
    user.refresh_from_db()
    assert user.full_name == "Grace Hopper"
    assert user.check_password(new)
    assert client.post("/welcome", {"password": PASSWORD}).url == "/account"
    user.refresh_from_db()
    assert user.check_password(new)


def test_nobody_else_sets_a_password_without_the_old_one(member: User, signed_in: SignedIn) -> None:
    client = signed_in(member)
    assert client.get("/welcome").url == "/account"
    assert client.post("/welcome", {"password": "a new and longer phrase"}).url == "/account"
    member.refresh_from_db()
    assert member.check_password(PASSWORD)


def _invite(team: Team, admin: User, role: Role = Role.MEMBER) -> str:
    return reverse("join", args=[services.invitation_create(actor=Actor(admin), team=team, role=role)[1]])


def test_an_invitation_makes_an_account_and_lets_it_in(team: Team, admin: User, client: Client) -> None:
    path = _invite(team, admin)
    page = client.get(path)
    assert (page.status_code, page["Referrer-Policy"]) == (200, "same-origin")
    assert re.search(r"Ada invites you to the team\s+<strong>Red</strong> as member", page.content.decode())
    assert client.post(path, {"username": "kay", "password": PASSWORD}).url == "/"
    assert client.get("/team").context["team"] == team
    assert Client().get(path).status_code == 404
    assert Client().post(path, {"username": "eve", "password": PASSWORD}).status_code == 404
    assert not User.objects.filter(username="eve").exists()


@pytest.mark.parametrize(
    ("values", "field"),
    [({"username": "ada"}, "username"), ({"username": "a b"}, "username"), ({"password": "short"}, "password")],
)
def test_a_bad_account_leaves_the_invitation_open(
    team: Team, admin: User, client: Client, values: dict[str, str], field: str
) -> None:
    path = _invite(team, admin)
    answer = client.post(path, {"username": "kay", "password": PASSWORD, **values})
    assert answer.status_code == 422
    assert answer.context["form"].errors[field]
    assert team.memberships.count() == 1
    assert client.post(path, {"username": "kay", "password": PASSWORD}).status_code == 302


def test_an_invitation_is_accepted_with_the_account_at_hand(
    team: Team, other_team: Team, admin: User, outsider: User, signed_in: SignedIn
) -> None:
    client = signed_in(outsider)
    path = _invite(team, admin, Role.VIEWER)
    assert "You are signed in as" in client.get(path).content.decode()
    assert client.post(path).url == "/"
    assert client.get("/team").context["team"] == team
    assert not client.get("/team").context["is_admin"]


def test_a_member_is_told_that_the_invitation_is_for_others(team: Team, admin: User, signed_in: SignedIn) -> None:
    client = signed_in(admin)
    path = _invite(team, admin)
    assert client.get(path).context["member"]
    assert client.post(path).status_code == 409
    assert Client().get(path).status_code == 200
