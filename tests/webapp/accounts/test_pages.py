"""The account and team pages."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from tests.support.api import ApiClient
from tests.support.factories import PASSWORD, make_user
from webapp.accounts import selectors, services
from webapp.accounts.access import Actor
from webapp.accounts.judges import judge_endpoint_get
from webapp.accounts.models import ApiToken, Invitation, Membership, Role, Team, TeamSecret, User

SignedIn = Callable[[User], Client]
NEW_PASSWORD = "another long enough phrase"


def _shown_once(answer: object) -> str:
    found = re.search(r"data-shown-once>([^<]+)<", answer.content.decode())  # type: ignore[attr-defined]
    assert found
    return found[1]


def _text(answer: object) -> str:
    return answer.content.decode()  # type: ignore[attr-defined, no-any-return]


def test_the_name_that_others_see_can_be_changed(pages: Client, member: User) -> None:
    assert pages.post("/account/name", {"full_name": "Max <b>Power</b>"}).url == "/account"
    assert "Max &lt;b&gt;Power&lt;/b&gt;" in _text(pages.get("/team"))
    assert pages.post("/account/name", {"full_name": "x" * 151}).status_code == 422


def test_a_new_password_takes_the_old_one_and_ends_other_sessions(member: User, signed_in: SignedIn) -> None:
    here, there = signed_in(member), signed_in(member)
    answer = here.post("/account/password", {"current": PASSWORD, "password": NEW_PASSWORD})
    assert answer.url == "/account"
    assert here.get("/account").status_code == 200
    assert there.get("/account").status_code == 302


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"current": "wrong"}, "current"),
        ({"current": ""}, "current"),
        ({"password": "short"}, "password"),
        ({"password": ""}, "password"),
    ],
)
def test_a_refused_password_says_why_and_stays_the_old_one(
    pages: Client, member: User, values: dict[str, str], field: str
) -> None:
    answer = pages.post("/account/password", {"current": PASSWORD, "password": NEW_PASSWORD, **values})
    assert answer.status_code == 422
    assert answer.context["password_form"].errors[field]
    member.refresh_from_db()
    assert member.check_password(PASSWORD)


def test_a_token_is_shown_once_works_and_can_be_revoked(pages: Client, member: User) -> None:
    answer = pages.post("/account/tokens", {"name": "nightly", "days": "30"})
    text = _shown_once(answer)
    assert "no-store" in answer["Cache-Control"]
    assert selectors.user_for_token(text) == member
    assert text not in _text(pages.get("/account"))
    token = ApiToken.objects.get()
    assert token.expires_at is not None
    assert timedelta(days=29) < token.expires_at - timezone.now() < timedelta(days=31)
    assert pages.post(f"/account/tokens/{token.pk}/revoke").url == "/account"
    assert selectors.user_for_token(text) is None


def test_a_token_may_last_until_it_is_revoked(pages: Client) -> None:
    _shown_once(pages.post("/account/tokens", {"name": "nightly", "days": "forever"}))
    assert ApiToken.objects.get().expires_at is None


@pytest.mark.parametrize(
    "values", [{"name": ""}, {"days": ""}, {"days": "100000"}, {"days": "soon"}, {"name": "x" * 101}]
)
def test_a_token_out_of_the_rules_is_not_made(pages: Client, values: dict[str, str]) -> None:
    answer = pages.post("/account/tokens", {"name": "nightly", "days": "30", **values})
    assert answer.status_code == 422
    assert answer.context["token_form"].errors
    assert not ApiToken.objects.exists()


def test_a_token_of_somebody_else_is_not_found(pages: Client, admin: User) -> None:
    token, text = services.token_create(actor=Actor(admin), name="hers")
    assert pages.post(f"/account/tokens/{token.pk}/revoke").status_code == 404
    assert selectors.user_for_token(text) == admin


def test_everyone_sees_the_members_and_admins_see_the_rest(
    team: Team, admin: User, viewer: User, signed_in: SignedIn
) -> None:
    services.token_create(actor=Actor(viewer), name="a private name")
    page = _text(signed_in(viewer).get("/team"))
    assert "Ada" in page
    for words in (
        "Create an invitation link",
        "Audit log",
        "Hugging Face hub",
        "API tokens of members",
        "Save the role",
    ):
        assert words not in page
    page = _text(signed_in(admin).get("/team"))
    for words in (
        "Create an invitation link",
        "Audit log",
        "Hugging Face hub",
        "API tokens of members",
        "Save the role",
    ):
        assert words in page
    assert "a private name" not in page


def test_an_invitation_link_is_shown_once_and_can_be_revoked(team: Team, admin: User, signed_in: SignedIn) -> None:
    client = signed_in(admin)
    answer = client.post(f"/team/{team.pk}/invitations", {"role": "viewer", "note": "Kay"})
    link = _shown_once(answer)
    assert link.startswith("http://testserver/join/")
    assert link not in _text(client.get("/team"))
    assert "Kay" in _text(client.get("/team"))
    assert client.post(f"/invitations/{Invitation.objects.get().pk}/revoke").url == "/team"
    assert Client().get(link).status_code == 404


def test_an_invitation_needs_a_known_role(team: Team, admin: User, signed_in: SignedIn) -> None:
    answer = signed_in(admin).post(f"/team/{team.pk}/invitations", {"role": "owner"})
    assert answer.status_code == 422
    assert answer.context["invitation_form"].errors["role"]
    assert not Invitation.objects.exists()


def test_admins_change_roles_and_remove_members(team: Team, admin: User, member: User, signed_in: SignedIn) -> None:
    client = signed_in(admin)
    assert client.post(f"/team/{team.pk}/members/{member.pk}/role", {"role": "viewer"}).url == "/team"
    assert Membership.objects.get(user=member).role == Role.VIEWER
    assert client.post(f"/team/{team.pk}/members/{member.pk}/role", {"role": "king"}).status_code == 422
    assert client.post(f"/team/{team.pk}/members/{uuid.uuid4()}/role", {"role": "viewer"}).status_code == 404
    assert client.post(f"/team/{team.pk}/members/{member.pk}/remove").url == "/team"
    assert not Membership.objects.filter(user=member).exists()
    assert signed_in(member).get("/team").status_code == 200


def test_the_last_admin_is_told_so(team: Team, admin: User, signed_in: SignedIn) -> None:
    client = signed_in(admin)
    answer = client.post(f"/team/{team.pk}/members/{admin.pk}/role", {"role": "viewer"})
    assert answer.status_code == 422
    assert "last admin" in _text(answer)
    assert client.post(f"/team/{team.pk}/members/{admin.pk}/remove").status_code == 409
    assert Membership.objects.get(user=admin).role == Role.ADMIN


ADMIN_DEEDS = [
    ("/team/{team}/name", {"name": "Ours now"}),
    ("/team/{team}/invitations", {"role": "admin"}),
    ("/team/{team}/members/{member}/role", {"role": "admin"}),
    ("/team/{team}/members/{admin}/remove", {}),
    ("/team/{team}/hub-token", {"value": "hf_x"}),
    ("/team/{team}/hub-token/delete", {}),
    ("/team/{team}/judge", {"url": "https://api.example.com/v1", "model": "m"}),
    ("/team/{team}/judge/delete", {}),
]


@pytest.mark.parametrize(("path", "values"), ADMIN_DEEDS)
def test_what_admins_do_is_forbidden_to_members_and_unknown_to_other_teams(
    team: Team, admin: User, member: User, outsider: User, signed_in: SignedIn, path: str, values: dict[str, str]
) -> None:
    target = path.format(team=team.pk, member=member.pk, admin=admin.pk)
    assert signed_in(member).post(target, values).status_code == 403
    assert signed_in(outsider).post(target, values).status_code == 404
    assert Client().post(target, values).url.startswith("/sign-in?")
    assert {m.user: m.role for m in team.memberships.all()} == {admin: Role.ADMIN, member: Role.MEMBER}
    assert not Invitation.objects.exists()
    assert not TeamSecret.objects.exists()
    assert Team.objects.get(pk=team.pk).name == "Red"


def test_the_hub_token_is_kept_and_never_shown(team: Team, admin: User, signed_in: SignedIn) -> None:
    client = signed_in(admin)
    assert client.post(f"/team/{team.pk}/hub-token", {"value": "hf_private"}).url == "/team"
    assert services.secret_get(team_id=team.pk, name=services.HUB_TOKEN) == "hf_private"
    page = _text(client.get("/team"))
    assert "A token is kept" in page
    assert "hf_private" not in page
    refused = client.post(f"/team/{team.pk}/hub-token", {"value": "hf private"})
    assert refused.status_code == 422
    assert "hf private" not in _text(refused)
    assert client.post(f"/team/{team.pk}/hub-token/delete").url == "/team"
    assert services.secret_get(team_id=team.pk, name=services.HUB_TOKEN) is None


def test_the_judges_endpoint_is_kept_and_never_shown(
    team: Team, admin: User, signed_in: SignedIn, settings: Settings
) -> None:
    client, sent = signed_in(admin), {"url": "https://judges.example.com/v1", "model": "judge-1", "key": "sk-private"}
    assert client.post(f"/team/{team.pk}/judge", sent).url == "/team"
    kept = judge_endpoint_get(team_id=team.pk)
    assert kept is not None
    assert kept[:3] == tuple(sent.values())
    page = _text(client.get("/team"))
    assert "An endpoint is kept" in page
    secret = bytes(TeamSecret.objects.get(team=team).ciphertext)
    for value in sent.values():
        assert value not in page
        assert value.encode() not in secret
    for url, problem in (
        ("https://169.254.169.254/v1", "must be a public address"),
        ("http://vllm:8000/v1", "must begin with https://"),
        ("https://me:pass@example.com", "the key goes into the field of its own"),
    ):
        refused = client.post(f"/team/{team.pk}/judge", {**sent, "url": url})
        assert refused.status_code == 422
        assert problem in _text(refused)
        assert "sk-private" not in _text(refused)
    assert judge_endpoint_get(team_id=team.pk) == kept
    settings.JUDGE_HOSTS = "vllm, other"
    assert client.post(f"/team/{team.pk}/judge", {**sent, "url": "http://vllm:8000/v1"}).status_code == 302
    assert client.post(f"/team/{team.pk}/judge/delete").url == "/team"
    assert judge_endpoint_get(team_id=team.pk) is None


def test_people_of_two_teams_switch_between_them(
    team: Team, other_team: Team, member: User, outsider: User, signed_in: SignedIn
) -> None:
    Membership.objects.create(team=other_team, user=member, role=Role.VIEWER)
    client = signed_in(member)
    assert client.get("/team").context["team"] == team
    assert client.post("/team/switch", {"team": str(other_team.pk), "next": "/team"}).url == "/team"
    assert client.get("/team").context["team"] == other_team
    assert client.post("/team/switch", {"team": str(team.pk), "next": "//evil.example"}).url == "/"
    for unknown in (str(uuid.uuid4()), "nonsense", ""):
        assert client.post("/team/switch", {"team": unknown}).status_code == 404
    assert client.get("/team").context["team"] == team
    services.membership_remove(actor=Actor(member), team=team, user_id=member.pk)
    assert client.get("/team").context["team"] == other_team


def test_somebody_without_a_team_creates_one(loner: User, signed_in: SignedIn) -> None:
    client = signed_in(loner)
    assert "You are not in a team yet" in _text(client.get("/team"))
    assert client.post("/team/new", {"name": ""}).status_code == 422
    assert client.post("/team/new", {"name": "Mine"}).url == "/team"
    assert client.get("/team").context["is_admin"]


def test_a_team_is_renamed(team: Team, admin: User, signed_in: SignedIn) -> None:
    client = signed_in(admin)
    assert client.post(f"/team/{team.pk}/name", {"name": "Crimson"}).url == "/team"
    assert client.post(f"/team/{team.pk}/name", {"name": " "}).status_code == 422
    assert Team.objects.get(pk=team.pk).name == "Crimson"


def test_the_audit_log_pages_back(team: Team, admin: User, member: User, signed_in: SignedIn) -> None:
    for number in range(60):
        services.audit(actor=Actor(member), team_id=team.pk, verb="run.create", detail={"number": number})
    services.audit(actor=Actor(member), team_id=team.pk, verb="run.stop", detail={"name": "<script>"})
    client = signed_in(admin)
    page = client.get(f"/team/{team.pk}/audit")
    assert len(page.context["events"]) == 50
    assert "&lt;script&gt;" in _text(page)
    older = client.get(f"/team/{team.pk}/audit?cursor={page.context['cursor']}")
    assert len(older.context["events"]) == 11
    assert older.context["cursor"] is None
    assert client.get(f"/team/{team.pk}/audit?cursor=nonsense").status_code == 422


def test_the_audit_log_is_for_admins_of_the_team(team: Team, member: User, outsider: User, signed_in: SignedIn) -> None:
    assert signed_in(member).get(f"/team/{team.pk}/audit").status_code == 403
    assert signed_in(outsider).get(f"/team/{team.pk}/audit").status_code == 404


def test_a_visit_is_noted_once_a_minute(pages: Client, member: User) -> None:
    pages.get("/account")
    member.refresh_from_db()
    first = member.last_seen_at
    assert first is not None
    pages.get("/account")
    member.refresh_from_db()
    assert member.last_seen_at == first


def test_the_team_page_costs_the_same_for_many_members(
    team: Team, admin: User, signed_in: SignedIn, django_assert_max_num_queries: Callable[..., object]
) -> None:
    for number in range(30):
        person = make_user(f"person{number}", team)
        services.token_create(actor=Actor(person), name="x")
    client = signed_in(admin)
    client.get("/team")
    with django_assert_max_num_queries(16):  # type: ignore[attr-defined]
        client.get("/team")


def test_the_api_takes_tokens_and_nothing_else(api: ApiClient, db: None) -> None:
    assert api.get("/methods").status_code == 200
    for token in (None, "polm_wrong", ""):
        answer = ApiClient(token).get("/runs")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
        assert ApiClient(token).post("/runs", {}).status_code == 401
