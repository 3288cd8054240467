"""Asking, claiming, writing and stopping, by services and API."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from polm_core.errors import PolmError
from tests.support.api import ApiClient
from tests.support.checkpoints import make_base_model, make_checkpoint
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.claimed import WorkStatus
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from webapp.playground import selectors, services
from webapp.playground.models import Generation
from webapp.registry.models import BaseModel, Checkpoint
from webapp.registry.services import model_ensure_starter
from webapp.registry.shares import share_create, share_revoke


@pytest.fixture
def model(team: Team) -> BaseModel:
    return make_base_model(team)


def ask(actor: Actor, *models: Any, **values: Any) -> list[Generation]:
    refs = [str(getattr(model, "pk", model)) for model in models]
    asked = {"prompt": "What is 2 + 3?", **values}
    return services.generate_create(actor=actor, team=actor.current_team, models=refs, **asked)


def claim() -> Generation:
    claimed = services.generation_claim()
    assert claimed is not None
    return claimed


# --- asking -----------------------------------------------------------------------------------------------------------
def test_a_prompt_goes_to_each_model_in_one_batch(actor: Actor, team: Team, model: BaseModel) -> None:
    checkpoint = make_checkpoint(team)
    left, right = ask(actor, model, checkpoint, system="Be brief.", settings={"temperature": 0})
    assert left.batch == right.batch
    assert (left.source, right.source) == (model, checkpoint)
    assert left.settings == {"max_new_tokens": 200, "temperature": 0, "top_p": 1.0, "seed": 0}
    assert selectors.batch_get(actor, left.batch) == [left, right]


@pytest.mark.parametrize("count", [0, 5])
def test_one_to_four_models_answer(actor: Actor, model: BaseModel, count: int) -> None:
    with pytest.raises(Invalid) as caught:
        ask(actor, *[model] * count)
    assert "models" in caught.value.fields


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n "}, "prompt"),
        ({"prompt": "x" * 20_001}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"system": "a\0b"}, "system"),
        ({"settings": {"max_new_tokens": 0}}, "settings.max_new_tokens"),
        ({"settings": {"max_new_tokens": 10**9}}, "settings.max_new_tokens"),
        ({"settings": {"temperature": -1}}, "settings.temperature"),
        ({"settings": {"temperature": float("nan")}}, "settings.temperature"),
        ({"settings": {"top_p": 0}}, "settings.top_p"),
        ({"settings": {"seed": 2**32}}, "settings.seed"),
        ({"settings": {"stop": "x"}}, "settings.stop"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_its_field(
    actor: Actor, model: BaseModel, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        ask(actor, model, **values)
    assert list(caught.value.fields) == [field]
    assert not Generation.objects.exists()


@pytest.mark.parametrize("ref", ["gpt2", "/etc/passwd", "", "00000000-0000-0000-0000-000000000000"])
def test_unknown_models_are_refused(actor: Actor, ref: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask(actor, ref)
    assert "models" in caught.value.fields


def test_a_model_in_preparation_is_waited_for(actor: Actor) -> None:
    model_ensure_starter()
    with pytest.raises(Conflict):
        ask(actor, "starter")


def test_another_teams_model_does_not_answer(actor: Actor, other_team: Team, viewer: User, model: BaseModel) -> None:
    with pytest.raises(Invalid):
        ask(actor, make_base_model(other_team))
    with pytest.raises(Forbidden):
        ask(Actor(viewer), model)


def test_a_shared_checkpoint_answers_until_the_share_ends(actor: Actor, team: Team, outsider: User) -> None:
    checkpoint = make_checkpoint(team)
    theirs = Actor(outsider)
    with pytest.raises(Invalid):
        ask(theirs, checkpoint)
    share = share_create(actor=actor, checkpoint=checkpoint, team="blue")
    assert ask(theirs, checkpoint)
    share_revoke(actor=actor, share_id=share.pk)
    with pytest.raises(Invalid):
        ask(theirs, checkpoint)


def test_a_team_cannot_flood_the_workers(actor: Actor, model: BaseModel) -> None:
    for _ in range(services.MAX_OPEN // 4):
        ask(actor, *[model] * 4)
    with pytest.raises(Conflict):
        ask(actor, model)


# --- answering --------------------------------------------------------------------------------------------------------
def test_the_oldest_is_answered_first_and_once(actor: Actor, model: BaseModel) -> None:
    first, second = ask(actor, model, model)
    assert (claim().pk, claim().pk) == (first.pk, second.pk)
    assert services.generation_claim() is None
    assert not selectors.generations_wait()


def test_an_answer_grows_and_ends(actor: Actor, model: BaseModel) -> None:
    ask(actor, model)
    working = claim()
    for piece in ("Five", " 🎉\0", ""):
        assert services.generation_write(generation=working, text=piece)
    assert services.generation_finish(generation=working, tokens=3, seconds=0.5)
    done = Generation.objects.get()
    assert (done.status, done.text, done.tokens, done.tokens_per_second) == ("done", "Five 🎉", 3, 6)
    assert done.length == 7  # as JavaScript counts
    assert not services.generation_write(generation=working, text="more")
    assert not services.generation_fail(generation=working, error=PolmError("late"))


def test_pages_are_sent_each_piece_with_its_place(actor: Actor, model: BaseModel, transactional_db: None) -> None:
    ask(actor, model)
    working = claim()
    with connection.cursor() as cursor:
        cursor.execute("LISTEN studio")
    services.generation_write(generation=working, text="é🎉")
    services.generation_write(generation=working, text="!")
    assert connection.connection is not None
    notes = [note.payload for note in connection.connection.notifies(timeout=2, stop_after=2)]
    connection.cursor().execute("UNLISTEN studio")
    assert f'"topic":"batch:{working.batch}","kind":"token"' in notes[0]
    assert '"from":0,"text":"é🎉"' in notes[0]
    assert '"from":3,"text":"!"' in notes[1]


def test_a_lost_workers_answer_is_taken_up_again_and_then_given_up(actor: Actor, model: BaseModel) -> None:
    ask(actor, model)
    lost = claim()
    services.generation_write(generation=lost, text="half an ans")
    past = timezone.now() - timedelta(seconds=1)
    Generation.objects.update(lease_until=past)
    assert selectors.generations_wait()
    again = claim()
    assert again.text == ""
    assert not services.generation_write(generation=lost, text="wer")
    Generation.objects.update(lease_until=past)
    assert services.generation_claim() is None
    ended = Generation.objects.get()
    assert ended.status == WorkStatus.FAILED
    assert ended.error is not None
    assert "lost" in ended.error["message"]


def test_stopping_keeps_what_was_written(actor: Actor, model: BaseModel, viewer: User, outsider: User) -> None:
    running, waiting = ask(actor, model, model)
    working = claim()
    services.generation_write(generation=working, text="so far")
    for someone, refusal in ((viewer, Forbidden), (outsider, NotFound)):
        with pytest.raises(refusal):
            services.generation_stop(actor=Actor(someone), generation=running)
    for generation in (running, waiting, running):
        services.generation_stop(actor=actor, generation=generation)
    assert not services.generation_write(generation=working, text=" no more")
    assert set(Generation.objects.values_list("status", "text")) == {("stopped", "so far"), ("stopped", "")}


# --- reading ----------------------------------------------------------------------------------------------------------
def test_history_is_by_prompt_and_bounded(
    actor: Actor, team: Team, model: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "MAX_OPEN", 1000)
    for number in range(selectors.HISTORY + 2):
        ask(actor, model, model, prompt=f"prompt {number}")
    seen = selectors.history(actor, team)
    assert [batch[0].prompt for batch in seen] == [f"prompt {n}" for n in range(selectors.HISTORY + 1, 1, -1)]
    assert {len(batch) for batch in seen} == {2}


def test_choices_hold_what_was_chosen_though_it_is_old(
    actor: Actor, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors, "MAX_CHOICES", 1)
    old, new = make_checkpoint(team, "old"), make_checkpoint(team, "new")
    assert selectors.choices(actor, team).checkpoints == [new]
    assert selectors.choices(actor, team, chosen=[str(old.pk), "nonsense"]).checkpoints == [new, old]
    Checkpoint.objects.filter(pk=new.pk).update(method="reward-model")
    assert selectors.choices(actor, team).checkpoints == [old], "what scores text writes none"


# --- the API ----------------------------------------------------------------------------------------------------------
def test_api_asks_reads_and_stops(api: ApiClient, api_of: Any, outsider: User, model: BaseModel) -> None:
    asked = api.post(
        "/generations", {"models": [str(model.pk)], "prompt": "Hi", "settings": {"max_new_tokens": 5, "temperature": 0}}
    )
    assert asked.status_code == 201
    pk = asked.json()["items"][0]["id"]
    assert api.get(f"/generations/{pk}").json()["status"] == "waiting"
    assert [item["id"] for item in api.get("/generations").json()["items"]] == [pk]
    stranger = api_of(outsider)
    assert stranger.get("/generations").json()["items"] == []
    assert stranger.get(f"/generations/{pk}").status_code == 404
    assert stranger.post(f"/generations/{pk}/stop").status_code == 404
    assert api.post(f"/generations/{pk}/stop").json()["status"] == "stopped"


def test_api_refuses_with_the_field(api: ApiClient, model: BaseModel) -> None:
    for body, field in (
        ({"models": [str(model.pk)], "prompt": "x", "settings": {"temperature": 99}}, "settings.temperature"),
        ({"models": [str(model.pk)], "prompt": ""}, "prompt"),
        ({"models": ["nope"], "prompt": "x"}, "models"),
        ({"prompt": "x"}, "models"),
        ({"models": [str(model.pk)], "prompt": "x", "n": 1}, "n"),
    ):
        answer = api.post("/generations", body)
        assert answer.status_code == 422, body
        assert field in answer.json()["error"]["fields"], answer.json()
