"""The playground page."""

import uuid
from typing import Any

import pytest
from django.test import Client

from tests.support.checkpoints import make_base_model, make_checkpoint
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.playground.models import Generation
from webapp.playground.services import generate_create, generation_claim, generation_finish, generation_write
from webapp.registry.models import BaseModel, Checkpoint

FORM = {"prompt": "What is 2 + 3?", "max_new_tokens": 50, "temperature": 0.5, "top_p": 0.9, "seed": 7}


@pytest.fixture
def model(team: Team) -> BaseModel:
    return make_base_model(team)


@pytest.fixture
def checkpoint(team: Team, model: BaseModel) -> Checkpoint:
    return make_checkpoint(team, base_model=model)


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_without_a_model_it_says_what_to_do(pages: Client) -> None:
    assert "No model is ready" in text(pages.get("/playground/"))


def test_asking_leads_to_a_page_that_can_be_shared(pages: Client, model: BaseModel, checkpoint: Checkpoint) -> None:
    answer = pages.post("/playground/", {**FORM, "left": model.pk, "right": checkpoint.pk})
    batch = Generation.objects.first().batch  # type: ignore[union-attr]
    assert (answer.status_code, answer.url) == (302, f"/playground/?batch={batch}")
    shown = text(pages.get(answer.url))
    assert f"batch:{batch}" in shown
    assert shown.count('data-answer="') == 2
    assert 'value="0.5"' in shown
    assert f'<option value="{checkpoint.pk}" selected>' in shown
    assert shown.count("What is 2 + 3?") == 2  # in the form and among the last prompts


def test_one_model_alone_may_answer(pages: Client, model: BaseModel) -> None:
    pages.post("/playground/", {**FORM, "left": model.pk, "right": ""})
    assert Generation.objects.get().settings == {"max_new_tokens": 50, "temperature": 0.5, "top_p": 0.9, "seed": 7}


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"temperature": 9},
        {"temperature": "warm"},
        {"max_new_tokens": 0},
        {"top_p": 2},
        {"seed": -1},
        {"left": "nope"},
        {"left": ""},
    ],
)
def test_a_refused_form_keeps_what_was_typed(pages: Client, model: BaseModel, wrong: dict[str, Any]) -> None:
    answer = pages.post("/playground/", {**FORM, "left": model.pk, "system": "kept", **wrong})
    assert answer.status_code == 422
    assert ">kept</textarea>" in text(answer).replace("\n", "")
    assert 'class="errors"' in text(answer) or 'role="alert"' in text(answer)
    assert not Generation.objects.exists()


def test_a_checkpoint_chosen_alone_is_compared_with_a_base(
    pages: Client, model: BaseModel, checkpoint: Checkpoint
) -> None:
    shown = text(pages.get(f"/playground/?model={checkpoint.pk}"))
    assert f'<option value="{model.pk}" selected>' in shown
    assert f'<option value="{checkpoint.pk}" selected>' in shown


def test_answers_come_as_text_and_as_a_fragment(pages: Client, actor: Actor, model: BaseModel) -> None:
    made = generate_create(actor=actor, team=actor.current_team, models=[str(model.pk)], prompt="x")[0]
    path = f"/playground/?batch={made.batch}"
    assert "every 5s" in text(pages.get(path, headers={"HX-Request": "true"}))
    working = generation_claim()
    assert working is not None
    generation_write(generation=working, text="<script>alert(1)</script> done")
    generation_finish(generation=working, tokens=8, seconds=2)
    shown = text(pages.get(path, headers={"HX-Request": "true"}))
    assert "<html" not in shown
    assert "every 5s" not in shown
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "4 tokens/s" in shown


def test_roles_and_teams(
    pages: Client, signed_in: Any, viewer: User, outsider: User, actor: Actor, model: BaseModel
) -> None:
    made = generate_create(actor=actor, team=actor.current_team, models=[str(model.pk)], prompt="our secret")[0]
    path = f"/playground/?batch={made.batch}"
    stop = f"/playground/{made.pk}/stop"
    reader, stranger = signed_in(viewer), signed_in(outsider)
    assert "our secret" in text(reader.get(path))
    assert 'id="ask"' not in text(reader.get(path))
    assert reader.post("/playground/", {**FORM, "left": model.pk}).status_code == 403
    assert reader.post(stop).status_code == 403
    assert stranger.get(path).status_code == 404
    assert "our secret" not in text(stranger.get("/playground/"))
    assert stranger.post(stop).status_code == 404
    assert pages.get("/playground/?batch=nonsense").status_code == 404
    assert pages.get(f"/playground/?batch={uuid.uuid4()}").status_code == 404
    assert pages.post(stop).status_code == 302
    made.refresh_from_db()
    assert made.status == "stopped"
