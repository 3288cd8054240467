"""API tokens, a team's secrets, the audit log."""

import logging
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from webapp.accounts import selectors, services
from webapp.accounts.access import Actor
from webapp.accounts.models import ApiToken, AuditEvent, Role, Team, TeamSecret, User
from webapp.errors import Conflict, Forbidden, Invalid, NotFound


def test_a_token_is_shown_once_and_kept_as_a_digest(member: User) -> None:
    token, text = services.token_create(actor=Actor(member), name="laptop")
    assert text.startswith("polm_")
    assert len(text) == 48
    assert text.startswith(token.prefix)
    assert text not in str(ApiToken.objects.values()) + str(AuditEvent.objects.values())
    assert selectors.user_for_token(text) == member


@pytest.mark.parametrize("text", ["", "polm_", "polm_" + "x" * 43, "x" * 10_000, "\0", "Bearer", "é"])
def test_no_other_text_is_a_token(member: User, text: str) -> None:
    services.token_create(actor=Actor(member), name="laptop")
    assert selectors.user_for_token(text) is None


def test_revoked_expired_and_inactive_are_refused(member: User) -> None:
    actor = Actor(member)
    token, revoked = services.token_create(actor=actor, name="revoked")
    services.token_revoke(actor=actor, token_id=token.pk)
    token, expired = services.token_create(actor=actor, name="expired", days=1)
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now())
    _, good = services.token_create(actor=actor, name="good", days=1)
    assert [selectors.user_for_token(text) for text in (revoked, expired, good)] == [None, None, member]
    User.objects.filter(pk=member.pk).update(is_active=False)
    assert selectors.user_for_token(good) is None


def test_the_last_use_is_noted_at_most_once_a_minute(member: User) -> None:
    token, text = services.token_create(actor=Actor(member), name="laptop")
    assert selectors.user_for_token(text)
    token.refresh_from_db()
    first = token.last_used_at
    assert first is not None
    with CaptureQueriesContext(
        connection,
    ) as queries:
        selectors.user_for_token(text)
    assert len(queries) == 1
    ApiToken.objects.update(last_used_at=first - timedelta(seconds=61))
    selectors.user_for_token(text)
    token.refresh_from_db()
    assert token.last_used_at is not None
    assert token.last_used_at >= first


def test_people_revoke_their_own_tokens_only(member: User, admin: User) -> None:
    token, text = services.token_create(actor=Actor(member), name="laptop")
    for key in (token.pk, uuid.uuid4()):
        with pytest.raises(NotFound):
            services.token_revoke(actor=Actor(admin), token_id=key)
    assert selectors.user_for_token(text) == member
    services.token_revoke(actor=Actor(member), token_id=token.pk)
    services.token_revoke(actor=Actor(member), token_id=token.pk)
    assert AuditEvent.objects.filter(verb="token.revoke").count() == 1
    assert selectors.user_tokens(member) == []


def test_a_token_has_a_name_and_there_is_an_end_to_them(member: User) -> None:
    with pytest.raises(Invalid) as refusal:
        services.token_create(actor=Actor(member), name=" ")
    assert refusal.value.fields["name"]
    for number in range(services.MAX_TOKENS):
        services.token_create(actor=Actor(member), name=str(number))
    with pytest.raises(Conflict, match="50 tokens"):
        services.token_create(actor=Actor(member), name="one more")


def test_a_team_s_tokens_are_those_of_its_members(team: Team, member: User, outsider: User) -> None:
    services.token_create(actor=Actor(member), name="ours")
    services.token_create(actor=Actor(outsider), name="theirs")
    assert [token.name for token in selectors.team_tokens(team)] == ["ours"]


def test_a_secret_is_kept_encrypted_and_given_to_workers(
    team: Team, other_team: Team, admin: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    services.secret_set(actor=Actor(admin), team=team, name=services.HUB_TOKEN, value="hf_first")
    services.secret_set(actor=Actor(admin), team=team, name=services.HUB_TOKEN, value="hf_second")
    assert services.secret_get(team_id=team.pk, name=services.HUB_TOKEN) == "hf_second"
    assert services.secret_get(team_id=other_team.pk, name=services.HUB_TOKEN) is None
    assert b"hf_second" not in bytes(TeamSecret.objects.get().ciphertext)
    assert "hf_" not in str(AuditEvent.objects.values())
    assert selectors.secret_set_at(team, services.HUB_TOKEN) is not None
    services.secret_delete(actor=Actor(admin), team=team, name=services.HUB_TOKEN)
    assert services.secret_get(team_id=team.pk, name=services.HUB_TOKEN) is None
    assert selectors.secret_set_at(team, services.HUB_TOKEN) is None


def test_a_ciphertext_opens_for_its_own_team_only(team: Team, other_team: Team, admin: User) -> None:
    secret = services.secret_set(actor=Actor(admin), team=team, name=services.HUB_TOKEN, value="hf_x")
    TeamSecret.objects.create(team=other_team, name=secret.name, ciphertext=secret.ciphertext)
    with pytest.raises(Invalid, match="cannot be read"):
        services.secret_get(team_id=other_team.pk, name=secret.name)


def test_a_changed_secret_key_is_told_and_an_old_one_still_opens(team: Team, admin: User, settings) -> None:
    services.secret_set(actor=Actor(admin), team=team, name=services.HUB_TOKEN, value="hf_x")
    before, settings.SECRET_KEY = settings.SECRET_KEY, "another"
    with pytest.raises(Invalid, match="SECRET_KEY has changed"):
        services.secret_get(team_id=team.pk, name=services.HUB_TOKEN)
    settings.SECRET_KEY_FALLBACKS = [before]
    assert services.secret_get(team_id=team.pk, name=services.HUB_TOKEN) == "hf_x"


@pytest.mark.parametrize("value", ["", "two words", "line\nbreak", "x" * 501, "schlüssel"])
def test_what_cannot_be_a_token_is_refused(team: Team, admin: User, value: str) -> None:
    with pytest.raises(Invalid) as refusal:
        services.secret_set(actor=Actor(admin), team=team, name=services.HUB_TOKEN, value=value)
    assert refusal.value.fields["value"]
    assert not TeamSecret.objects.exists()


def test_only_admins_keep_secrets(team: Team, member: User, outsider: User) -> None:
    for person, refusal in ((member, Forbidden), (outsider, NotFound)):
        with pytest.raises(refusal):
            services.secret_set(actor=Actor(person), team=team, name=services.HUB_TOKEN, value="hf_x")
        with pytest.raises(refusal):
            services.secret_delete(actor=Actor(person), team=team, name=services.HUB_TOKEN)


def test_the_audit_log_holds_the_team_s_events_and_its_members_own(
    team: Team, other_team: Team, admin: User, outsider: User
) -> None:
    services.token_create(actor=Actor(admin), name="mine")
    services.token_create(actor=Actor(outsider), name="not ours")
    services.audit(actor=Actor(outsider), team_id=other_team.pk, verb="run.create")
    services.audit(actor=Actor(admin), team_id=team.pk, verb="run.create", target=team, detail={"id": team.pk})
    events, cursor = selectors.audit_page(team)
    assert [event.verb for event in events] == ["run.create", "token.create"]
    assert events[0].detail == {"id": str(team.pk)}
    assert (events[0].target, events[0].target_id) == ("team", str(team.pk))
    assert cursor is None


def test_roles_include_the_ones_below() -> None:
    assert Role.ADMIN.includes(Role.MEMBER)
    assert Role.MEMBER.includes(Role.MEMBER)
    assert not Role.VIEWER.includes(Role.MEMBER)
