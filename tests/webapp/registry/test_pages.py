"""The model and checkpoint pages, as people of each role see them."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.support.checkpoints import make_checkpoint
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.registry import selectors, services
from webapp.registry.models import BaseModel, Checkpoint, Share
from webapp.registry.shares import share_create
from webapp.runs.models import Run, RunCheckpoint

HTMX = {"HX-Request": "true"}


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_an_empty_team_is_told_what_to_do(pages: Client) -> None:
    shown = text(pages.get("/models/"))
    assert "No models yet" in shown
    assert "No checkpoints yet" in shown


def test_the_list_shows_models_and_checkpoints(pages: Client, team: Team, actor: Actor) -> None:
    run = make_run(team, "my run")
    checkpoint = make_checkpoint(team, "my run @ 20")
    RunCheckpoint.objects.create(run=run, checkpoint=checkpoint, step=20)
    model = services.model_add(actor=actor, team=team, hub_id="owner/name")
    shown = text(pages.get("/models/"))
    for expected in ("my run @ 20", reverse("checkpoint", args=[checkpoint.pk]), "eval/loss", "owner/name", "1.5"):
        assert expected in shown
    assert f"model:{model.pk}" in shown  # its progress comes live
    fragment = text(pages.get("/models/", headers=HTMX))
    assert "owner/name" in fragment
    assert "<html" not in fragment


def test_the_list_pages_through_checkpoints_without_more_queries(
    pages: Client, team: Team, django_assert_max_num_queries: Any
) -> None:
    for number in range(51):
        make_checkpoint(team, f"checkpoint {number:02}")
    with django_assert_max_num_queries(16):
        shown = text(pages.get("/models/"))
    assert "checkpoint 50" in shown
    assert "checkpoint 00" not in shown
    older = shown.split('href="?cursor=')[1].split('"')[0]
    assert "checkpoint 00" in text(pages.get(f"/models/?cursor={older}"))


def test_adding_a_model_by_form(pages: Client) -> None:
    answer = pages.post("/models/new", {"hub_id": "owner/name"}, follow=True)
    model = BaseModel.objects.get()
    assert answer.redirect_chain == [(reverse("model", args=[model.pk]), 302)]
    assert "being prepared" in text(answer)


def test_a_refused_form_keeps_what_was_typed_and_says_what_is_right(pages: Client) -> None:
    answer = pages.post("/models/new", {"hub_id": "https://huggingface.co/x"})
    assert answer.status_code == 422
    assert "owner/name" in text(answer)
    assert 'value="https://huggingface.co/x"' in text(answer)
    assert not BaseModel.objects.exists()


def test_a_model_is_renamed_retried_and_deleted(pages: Client, actor: Actor, team: Team) -> None:
    model = services.model_add(actor=actor, team=team, hub_id="owner/name")
    services.model_add(actor=actor, team=team, hub_id="owner/taken")
    path = f"/models/{model.pk}"
    assert pages.post(f"{path}/rename", {"name": "owner/taken"}).status_code == 422
    pages.post(f"{path}/rename", {"name": "mine"})
    assert "mine" in text(pages.get(path))
    assert pages.post(f"{path}/retry").status_code == 409
    BaseModel.objects.filter(pk=model.pk).update(status="failed", error={"message": "boom", "advice": "try harder"})
    assert "try harder" in text(pages.get(path, headers=HTMX))
    pages.post(f"{path}/retry")
    pages.post(f"{path}/delete")
    assert not BaseModel.objects.filter(pk=model.pk).exists()


def test_a_models_page_shows_what_was_trained_from_it(pages: Client, team: Team, other_team: Team) -> None:
    run = make_run(team, "our run")
    checkpoint = make_checkpoint(team, "our run @ 20", base_model=run.model)
    RunCheckpoint.objects.create(run=run, checkpoint=checkpoint, step=20)
    shown = text(pages.get(f"/models/{run.model_id}"))
    assert reverse("run", args=[run.pk]) in shown
    assert reverse("checkpoint", args=[checkpoint.pk]) in shown
    assert "shared by" not in shown


def test_runs_of_other_teams_are_not_counted(actor: Actor, team: Team, other_team: Team) -> None:
    starter = services.model_ensure_starter()
    for owner in (team, other_team):
        Run.objects.filter(pk=make_run(owner).pk).update(model=starter)
    assert selectors.model_get(actor, "starter").run_count == 1  # type: ignore[attr-defined]


def test_names_are_shown_as_text(pages: Client, actor: Actor, team: Team) -> None:
    hostile = "<script>alert(1)</script>"
    checkpoint = make_checkpoint(team, hostile)
    model = services.checkpoint_register(actor=actor, checkpoint=checkpoint, team=team, name="'\"><img src=x>")
    for path in ("/models/", f"/models/{model.pk}", f"/models/checkpoints/{checkpoint.pk}"):
        shown = text(pages.get(path))
        assert "<script>alert" not in shown
        assert "<img src=x>" not in shown


def test_the_checkpoint_page_shows_files_metrics_and_lineage(pages: Client, team: Team, checkpoint: Checkpoint) -> None:
    child = make_checkpoint(team, "the child", parent=checkpoint)
    shown = text(pages.get(f"/models/checkpoints/{checkpoint.pk}"))
    for file in checkpoint.download_files:
        assert file["sha256"] in shown
    assert "optimizer.bin" not in shown
    assert "eval/loss" in shown
    assert str(child.pk) in shown
    assert checkpoint.name in text(pages.get(f"/models/checkpoints/{child.pk}"))


def test_a_link_is_shown_once_opened_and_revoked(pages: Client, checkpoint: Checkpoint, client: Client) -> None:
    path = f"/models/checkpoints/{checkpoint.pk}"
    made = pages.post(f"{path}/share", {"kind": "link", "days": "7"})
    assert made.status_code == 200
    assert "no-store" in made.headers["Cache-Control"]
    link = text(made).split('data-copy="')[1].split('"')[0]
    assert link not in text(pages.get(path))
    assert checkpoint.name in text(client.get(link))
    share = Share.objects.get()
    pages.post(f"/models/shares/{share.pk}/revoke")
    assert client.get(link).status_code == 404


def test_sharing_with_a_team_by_form(
    pages: Client, checkpoint: Checkpoint, outsider: User, signed_in: Any, other_team: Team
) -> None:
    path = f"/models/checkpoints/{checkpoint.pk}"
    answer = pages.post(f"{path}/share", {"kind": "team", "receiver": "blue", "days": ""}, follow=True)
    assert "shared with Blue" in text(answer)
    theirs = signed_in(outsider)
    shown = text(theirs.get(path))
    assert "shared by Red" in shown
    assert reverse("share-new", args=[checkpoint.pk]) not in shown
    assert "shared by Red" in text(theirs.get("/models/"))
    registered = theirs.post(f"{path}/register", {"name": "from red"})
    assert registered.status_code == 302
    assert BaseModel.objects.get(name="from red").team == other_team


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "team", "receiver": "", "days": "7"},
        {"kind": "team", "receiver": "nobody", "days": "7"},
        {"kind": "user", "receiver": "nobody", "days": "7"},
        {"kind": "link", "receiver": "blue", "days": "7"},
        {"kind": "link", "days": "99999"},
        {"kind": "world"},
    ],
)
def test_a_share_form_that_makes_no_sense_is_refused(
    pages: Client, checkpoint: Checkpoint, form: dict[str, str]
) -> None:
    answer = pages.post(f"/models/checkpoints/{checkpoint.pk}/share", form)
    assert answer.status_code == 422
    assert 'class="errors"' in text(answer)
    assert not Share.objects.exists()


def test_deleting_a_checkpoint_by_page(pages: Client, checkpoint: Checkpoint) -> None:
    assert pages.post(f"/models/checkpoints/{checkpoint.pk}/delete").status_code == 302
    assert not Checkpoint.objects.exists()


def test_roles_and_teams(
    signed_in: Any, viewer: User, outsider: User, loner: User, actor: Actor, checkpoint: Checkpoint
) -> None:
    model = services.model_add(actor=actor, team=checkpoint.team, hub_id="owner/name")
    share = share_create(actor=actor, checkpoint=checkpoint, link=True)
    reads = [f"/models/{model.pk}", f"/models/checkpoints/{checkpoint.pk}"]
    writes = [
        f"/models/{model.pk}/rename",
        f"/models/{model.pk}/retry",
        f"/models/{model.pk}/delete",
        f"/models/checkpoints/{checkpoint.pk}/register",
        f"/models/checkpoints/{checkpoint.pk}/share",
        f"/models/checkpoints/{checkpoint.pk}/delete",
        f"/models/shares/{share.pk}/revoke",
    ]
    readers, strangers, nobody = signed_in(viewer), signed_in(outsider), signed_in(loner)
    for path in reads:
        assert readers.get(path).status_code == 200
        assert strangers.get(path).status_code == 404
        assert nobody.get(path).status_code in (403, 404)
        assert Client().get(path).status_code == 302
    for path in writes:
        assert readers.post(path).status_code == 403
        assert strangers.post(path).status_code == 404
        assert nobody.post(path).status_code == 403
        assert strangers.get(path).status_code == 405
    assert readers.post("/models/new", {"hub_id": "a/b"}).status_code == 403
    share.refresh_from_db()
    assert share.revoked_at is None
