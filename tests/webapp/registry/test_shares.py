"""Sharing a checkpoint with a team, a person or by a link, and taking it back."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.api import ApiClient
from tests.support.checkpoints import make_checkpoint
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, Team, User
from webapp.errors import Forbidden, Invalid, NotFound
from webapp.registry import selectors, services
from webapp.registry.links import share_token
from webapp.registry.models import Checkpoint, Share
from webapp.registry.shares import LINK_LIFETIME, share_create, share_revoke


def expire(share: Share) -> None:
    Share.objects.filter(pk=share.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


def test_a_team_share_opens_it_to_that_team_alone(
    actor: Actor, other_actor: Actor, loner: User, checkpoint: Checkpoint
) -> None:
    share = share_create(actor=actor, checkpoint=checkpoint, team="blue")
    assert selectors.checkpoint_get(other_actor, checkpoint.pk) == checkpoint
    assert selectors.share_that_opens(other_actor, checkpoint) == share
    assert selectors.share_that_opens(actor, checkpoint) is None
    with pytest.raises(NotFound):
        selectors.checkpoint_get(Actor(loner), checkpoint.pk)


def test_a_person_without_a_team_can_be_shared_with(actor: Actor, loner: User, checkpoint: Checkpoint) -> None:
    share_create(actor=actor, checkpoint=checkpoint, user="LONE")
    assert selectors.checkpoint_get(Actor(loner), checkpoint.pk) == checkpoint


@pytest.mark.parametrize("end", ["expired", "revoked"])
def test_a_share_that_has_ended_opens_nothing(
    actor: Actor, other_actor: Actor, checkpoint: Checkpoint, end: str
) -> None:
    share = share_create(actor=actor, checkpoint=checkpoint, team="blue")
    model = services.model_resolve_for_run(other_actor, str(checkpoint.pk))
    assert model.team == other_actor.team
    expire(share) if end == "expired" else share_revoke(actor=actor, share_id=share.pk)
    with pytest.raises(NotFound):
        selectors.checkpoint_get(other_actor, checkpoint.pk)
    # The model that was registered meanwhile opens it no longer either.
    with pytest.raises(Invalid):
        services.model_resolve_for_run(other_actor, str(model.pk))


def test_reading_is_all_that_a_share_gives(actor: Actor, other_actor: Actor, checkpoint: Checkpoint) -> None:
    share = share_create(actor=actor, checkpoint=checkpoint, team="blue")
    with pytest.raises(NotFound):
        services.checkpoint_delete(actor=other_actor, checkpoint=checkpoint)
    with pytest.raises(NotFound):
        share_create(actor=other_actor, checkpoint=checkpoint, link=True)
    with pytest.raises(NotFound):
        share_revoke(actor=other_actor, share_id=share.pk)


def test_a_run_starts_from_a_shared_checkpoint(actor: Actor, other_actor: Actor, checkpoint: Checkpoint) -> None:
    share_create(actor=actor, checkpoint=checkpoint, team="blue")
    model = services.model_resolve_for_run(other_actor, str(checkpoint.pk))
    assert (model.team, model.checkpoint) == (other_actor.team, checkpoint)
    assert services.model_resolve_for_run(other_actor, str(model.pk)) == model


def test_sharing_again_moves_the_end(actor: Actor, other_team: Team, checkpoint: Checkpoint) -> None:
    first = share_create(actor=actor, checkpoint=checkpoint, team=other_team.slug)
    end = timezone.now() + timedelta(days=3)
    again = share_create(actor=actor, checkpoint=checkpoint, team=str(other_team.pk), expires_at=end)
    assert (again.pk, again.expires_at) == (first.pk, end)
    share_revoke(actor=actor, share_id=first.pk)
    assert share_create(actor=actor, checkpoint=checkpoint, team="blue").pk != first.pk


def test_a_team_is_named_by_name_slug_or_id(actor: Actor, other_team: Team, checkpoint: Checkpoint) -> None:
    shares = {
        share_create(actor=actor, checkpoint=checkpoint, team=ref).pk
        for ref in ("Blue", "BLUE", other_team.slug, str(other_team.pk))
    }
    assert len(shares) == 1
    namesake = Team.objects.create(name="blue", slug="blue-2")
    with pytest.raises(Invalid, match="Several"):
        share_create(actor=actor, checkpoint=checkpoint, team="Blue")
    assert share_create(actor=actor, checkpoint=checkpoint, team=str(namesake.pk)).team == namesake


def test_a_link_ends_by_itself(actor: Actor, checkpoint: Checkpoint) -> None:
    share = share_create(actor=actor, checkpoint=checkpoint, link=True)
    assert share.expires_at is not None
    assert abs(share.expires_at - timezone.now() - LINK_LIFETIME) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "team"),
        ({"team": "blue", "link": True}, "team"),
        ({"team": "blue", "user": "max"}, "team"),
        ({"team": "nobody"}, "team"),
        ({"team": "bl\0ue"}, "team"),
        ({"team": "\ud800"}, "team"),
        ({"team": "red"}, "team"),
        ({"user": "nobody"}, "user"),
        ({"user": "0" * 32}, "user"),
        ({"link": True, "expires_at": timezone.now() - timedelta(days=1)}, "expires"),
        ({"link": True, "expires_at": timezone.now() + timedelta(days=1000)}, "expires"),
        ({"link": True, "expires_at": datetime(2100, 1, 1)}, "expires"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(
    actor: Actor, other_team: Team, checkpoint: Checkpoint, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        share_create(actor=actor, checkpoint=checkpoint, **values)
    assert list(caught.value.fields) == [field]
    assert not Share.objects.exists()


def test_a_viewer_may_not_share(viewer: User, checkpoint: Checkpoint) -> None:
    with pytest.raises(Forbidden):
        share_create(actor=Actor(viewer), checkpoint=checkpoint, link=True)


def test_shares_are_on_record_without_the_link(actor: Actor, checkpoint: Checkpoint) -> None:
    share = share_create(actor=actor, checkpoint=checkpoint, link=True)
    share_revoke(actor=actor, share_id=share.pk)
    share_revoke(actor=actor, share_id=share.pk)
    events = list(AuditEvent.objects.filter(verb__startswith="share.").order_by("pk"))
    assert [event.verb for event in events] == ["share.create", "share.revoke"]
    assert share_token(share).split(".")[1] not in str([event.detail for event in events])


# --- links ------------------------------------------------------------------------------------------------------------
def test_a_link_opens_its_checkpoint_until_it_is_revoked(actor: Actor, checkpoint: Checkpoint, client: Client) -> None:
    share = share_create(actor=actor, checkpoint=checkpoint, link=True)
    url = f"/models/shared/{share_token(share)}"
    page = client.get(url)
    assert page.status_code == 200
    assert checkpoint.name in page.content.decode()
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in page.headers["Cache-Control"]
    assert client.get(f"{url}/download").status_code == 200
    share_revoke(actor=actor, share_id=share.pk)
    assert client.get(url).status_code == client.get(f"{url}/download").status_code == 404


def test_forged_and_ended_links_open_nothing(actor: Actor, checkpoint: Checkpoint, client: Client) -> None:
    share = share_create(actor=actor, checkpoint=checkpoint, link=True)
    token = share_token(share)
    pk, signature = token.split(".")
    other = make_checkpoint(checkpoint.team, "other")
    theirs = share_create(actor=actor, checkpoint=other, link=True)
    forged = [
        pk,
        f"{pk}.",
        f"{pk}.{signature[:-1]}",
        f"{theirs.pk.hex}.{signature}",
        f"{'0' * 32}.{signature}",
        token.upper(),
        "x",
        "..",
        "%00",
    ]
    for attempt in forged:
        assert client.get(f"/models/shared/{attempt}").status_code == 404, attempt
        assert client.get(f"/models/shared/{attempt}/download").status_code == 404, attempt
    expire(share)
    assert client.get(f"/models/shared/{token}").status_code == 404


def test_a_team_share_is_no_link(actor: Actor, other_team: Team, checkpoint: Checkpoint) -> None:
    share = share_create(actor=actor, checkpoint=checkpoint, team="blue")
    with pytest.raises(NotFound):
        selectors.share_for_token(share_token(share))


def test_links_die_with_the_secret_key(actor: Actor, checkpoint: Checkpoint, settings: Any) -> None:
    token = share_token(share_create(actor=actor, checkpoint=checkpoint, link=True))
    settings.SECRET_KEY = "another"
    with pytest.raises(NotFound):
        selectors.share_for_token(token)


# --- the API ----------------------------------------------------------------------------------------------------------
def test_api_shares_lists_and_revokes(
    api: ApiClient, api_of: Any, outsider: User, checkpoint: Checkpoint, client: Client
) -> None:
    path = f"/checkpoints/{checkpoint.pk}"
    end = (timezone.now() + timedelta(days=2)).isoformat()
    link = api.post(f"{path}/share", {"link": True, "expires": end})
    assert link.status_code == 201
    assert client.get(link.json()["url"]).status_code == 200
    team_share = api.post(f"{path}/share", {"team": "blue"})
    assert (team_share.json()["kind"], team_share.json()["url"]) == ("team", None)
    stranger = api_of(outsider)
    assert [item["id"] for item in stranger.get("/checkpoints").json()["items"]] == [str(checkpoint.pk)]
    assert stranger.get(f"{path}/shares").status_code == 404
    listed = api.get(f"{path}/shares").json()["items"]
    assert {item["kind"] for item in listed} == {"team", "link"}
    assert "url" not in listed[0]
    for item in listed:
        assert stranger.delete(f"/shares/{item['id']}").status_code == 404
        assert api.delete(f"/shares/{item['id']}").status_code == 204
    assert api.get(f"{path}/shares").json()["items"] == []
    assert stranger.get(path).status_code == 404
    assert client.get(link.json()["url"]).status_code == 404


def test_api_names_the_field_at_fault(api: ApiClient, checkpoint: Checkpoint) -> None:
    for body, field in (
        ({"link": True, "expires": "tomorrow"}, "expires"),
        ({"link": True, "expires": "2020-01-01T00:00:00Z"}, "expires"),
        ({"link": True, "expires": "2100-01-01T00:00:00"}, "expires"),
        ({"team": "nobody"}, "team"),
        ({"teams": "blue"}, "teams"),
    ):
        answer = api.post(f"/checkpoints/{checkpoint.pk}/share", body)
        assert answer.status_code == 422, body
        assert field in answer.json()["error"]["fields"]
