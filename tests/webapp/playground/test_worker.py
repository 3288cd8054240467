"""The worker's side, with a real model in a real child process."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from webapp.accounts.access import Actor
from webapp.claimed import WorkStatus
from webapp.playground.models import Generation
from webapp.playground.services import generate_create, generation_stop, generation_write
from webapp.registry.models import BaseModel
from workers import playground, presence
from workers.speaking import SpeakingChild

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("child")]


def ask(actor: Actor, *models: BaseModel, tokens: int = 12, **values: Any) -> list[Generation]:
    settings = {"max_new_tokens": tokens, **values}
    refs = [str(model.pk) for model in models]
    return generate_create(
        actor=actor, team=actor.current_team, models=refs, prompt="What is 2 + 3?", settings=settings
    )


def interrupt(monkeypatch: pytest.MonkeyPatch, deed: Callable[[Generation], object]) -> None:
    """Do `deed` once, when the first piece of an answer has been written."""
    done = threading.Event()

    def write(*, generation: Generation, text: str) -> bool:
        written = generation_write(generation=generation, text=text)
        if text and not done.is_set():
            done.set()
            deed(generation)
        return written

    monkeypatch.setattr(playground, "generation_write", write)


def ended(generation: Generation) -> Generation:
    generation.refresh_from_db()
    return generation


def test_all_that_waits_is_answered(actor: Actor, tiny: BaseModel) -> None:
    left, right = ask(actor, tiny, tiny, temperature=0, seed=1)
    playground.generate(str(left.pk))
    for generation in (left, right):
        done = ended(generation)
        assert (done.status, done.error) == (WorkStatus.DONE, None)
        assert 0 < done.tokens <= 12
        assert done.seconds is not None
        assert done.text
    assert left.text == right.text  # the likeliest tokens of the same model


def test_a_seed_repeats_an_answer_and_another_changes_it(actor: Actor, tiny: BaseModel) -> None:
    same = [ask(actor, tiny, tokens=40, temperature=1.0, seed=5)[0] for _ in range(2)]
    other = ask(actor, tiny, tokens=40, temperature=1.0, seed=6)[0]
    playground.generate()
    assert ended(same[0]).text == ended(same[1]).text
    assert ended(other).text != same[0].text


def test_a_prompt_that_does_not_fit_is_a_clear_error(actor: Actor, tiny: BaseModel) -> None:
    generation = ask(actor, tiny, tokens=2000)[0]
    playground.generate()
    failed = ended(generation)
    assert failed.status == WorkStatus.FAILED
    assert failed.error is not None
    assert "512" in failed.error["message"]


def test_a_model_that_is_gone_is_a_clear_error(actor: Actor, tiny: BaseModel) -> None:
    BaseModel.objects.filter(pk=tiny.pk).update(path=f"{tiny.path}-gone")
    generation = ask(actor, tiny)[0]
    playground.generate()
    assert ended(generation).error["code"] == "model.missing"  # type: ignore[index]


def test_a_stopped_answer_stops_and_the_next_is_given(
    actor: Actor, tiny: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, following = ask(actor, tiny, tiny, tokens=450, temperature=1.0)
    interrupt(monkeypatch, lambda generation: generation_stop(actor=actor, generation=generation))
    playground.generate()
    assert ended(stopped).status == WorkStatus.STOPPED
    assert ended(following).status == WorkStatus.DONE
    assert 0 < len(stopped.text) < len(following.text)


def test_a_child_that_dies_fails_one_answer_and_is_started_again(
    actor: Actor, tiny: BaseModel, child: SpeakingChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, following = ask(actor, tiny, tiny, tokens=450, temperature=1.0)
    interrupt(monkeypatch, lambda _: child._process.kill())  # type: ignore[union-attr]
    playground.generate()
    assert ended(killed).status == WorkStatus.FAILED
    assert killed.error is not None
    assert killed.error["code"] == "generation.crashed"
    assert ended(following).status == WorkStatus.DONE


def test_a_worker_that_shuts_down_gives_the_answer_back(
    actor: Actor, tiny: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(presence, "shutting_down", stopping)
    generation = ask(actor, tiny, tokens=450, temperature=1.0)[0]
    interrupt(monkeypatch, lambda _: stopping.set())
    playground.generate()
    given_back = ended(generation)
    assert (given_back.status, given_back.text, given_back.attempts) == (WorkStatus.WAITING, "", 0)


def test_a_silent_child_is_given_up(actor: Actor, tiny: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "SILENCE_SECONDS", 0.0)
    generation = ask(actor, tiny)[0]
    playground.generate()
    assert ended(generation).error["code"] == "generation.time"  # type: ignore[index]


def test_another_thread_leaves_the_work_to_the_one_at_it(actor: Actor, tiny: BaseModel) -> None:
    generation = ask(actor, tiny)[0]
    with playground._child.busy:
        playground.generate()
    assert ended(generation).status == WorkStatus.WAITING
