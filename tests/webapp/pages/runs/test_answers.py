"""The Samples tab: the best answers first, two of them compared, and the way to a dataset."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.support import factories
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.runs.models import Run, RunDataset, RunSample
from webapp.ui.differences import both_sides

PAIRS = b"".join(b'{"prompt": "%d?", "chosen": "yes", "rejected": "no"}\n' % n for n in range(3))


@pytest.fixture
def run(team: Team) -> Run:
    return make_run(team, "learns", method="rloo", status="succeeded")


def rollout(run: Run, offset: int, text: str, reward: float | None, step: int = 1, **values: Any) -> RunSample:
    data = {"reward": reward, "advantage": None if reward is None else -reward, "group": 0, "place": offset}
    fields = {"prompt": "1 + 1?", "is_rollout": True, "data": data, **values}
    return RunSample.objects.create(run=run, step=step, offset=offset, completion=text, **fields)


def shown(client: Client, run: Run, **asked: Any) -> str:
    answer = client.get(f"/runs/{run.pk}/samples", {"show": "rollouts", **asked})
    assert answer.status_code == 200
    return answer.content.decode()


def order(page: str, *texts: str) -> list[str]:
    return sorted((text for text in texts if text in page), key=page.index)


def test_numbers_of_the_data_are_columns(run: Run) -> None:
    odd: list[Any] = [1, 0.25, None, "high", [1], {"a": 1}, True]
    for offset, value in enumerate(odd):
        rollout(run, offset, "x", None, data={"reward": value})
    RunSample.objects.create(run=run, step=1, offset=99, prompt="", completion="")
    rewards = list(RunSample.objects.order_by("id").values_list("reward", flat=True))
    assert rewards == [1.0, 0.25, None, None, None, None, None, None]


def test_of_a_long_step_the_best_are_shown(pages: Client, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.pages.runs.rollouts.SHOWN", 2)
    for offset, reward in enumerate((0.1, None, 0.9, 0.5)):
        rollout(run, offset, f"worth-{reward}", reward)
    texts = ("worth-0.1", "worth-None", "worth-0.9", "worth-0.5")
    assert order(shown(pages, run), *texts) == ["worth-0.9", "worth-0.5"]
    assert order(shown(pages, run, sort="advantage"), *texts) == ["worth-0.1", "worth-0.5"]


def test_the_best_of_every_step(pages: Client, run: Run, django_assert_max_num_queries: Any) -> None:
    for step in range(1, 6):
        rollout(run, step, f"of-{step}", abs(3 - step), step=step)
    assert order(shown(pages, run, step="all"), *(f"of-{n}" for n in range(1, 6))) == [
        "of-1",
        "of-5",
        "of-2",
        "of-4",
        "of-3",
    ]
    assert order(shown(pages, run, step="2"), "of-1", "of-2") == ["of-2"]
    with django_assert_max_num_queries(12):
        shown(pages, run, step="all")


def test_the_indexes_serve_what_is_sorted_and_looked_up(run: Run) -> None:
    other = make_run(run.team, "other")
    RunSample.objects.bulk_create(
        RunSample(
            run=one, step=n, offset=n, prompt=f"p{n % 50}", completion="x", is_rollout=True, data={"reward": n % 7}
        )
        for one in (run, other)
        for n in range(3000)
    )
    from django.db import connection

    from webapp.runs import selectors

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE runs_runsample")
    best = selectors.rollouts_best_first(run, "reward")[:200].explain()
    assert "run_sample_reward" in best
    assert "Sort" not in best
    assert "run_sample_prompt" in selectors.samples_like(RunSample.objects.filter(run=run)[0]).explain()


def test_what_there_is_is_shown_first(pages: Client, run: Run) -> None:
    rollout(run, 1, "learned from it", 0.5)
    assert "learned from it" in pages.get(f"/runs/{run.pk}/samples").content.decode()
    assert "No samples yet" in pages.get(f"/runs/{run.pk}/samples?show=held-out").content.decode()
    RunSample.objects.create(run=run, step=0, offset=0, prompt="held out?", completion="an answer to it")
    page = pages.get(f"/runs/{run.pk}/samples").content.decode()
    assert "an answer to it" in page
    assert "learned from it" not in page


def test_nothing_is_said_to_be_learned_where_nothing_is_trained(pages: Client, team: Team, run: Run) -> None:
    scaled = make_run(team, "scaled", method="test-time-scaling")
    for one, says in ((run, "answers it learned from"), (scaled, "answers it drew")):
        rollout(one, 1, "an answer", 0.5)
        page = shown(pages, one)
        assert says in page
        assert ("became likelier" in page) == (one == run)


def test_two_steps_of_one_prompt_are_compared(pages: Client, run: Run) -> None:
    first = rollout(run, 1, "it is <b>four</b> now", 0.1, step=1)
    rollout(run, 2, "it is <b>five</b> now", 0.2, step=2)
    last = rollout(run, 3, "it is two now", 0.3, step=3)
    rollout(run, 4, "another", 0.3, step=3, prompt="another?")
    held_out = RunSample.objects.create(run=run, step=9, offset=9, prompt="1 + 1?", completion="held out")
    address = f"/runs/{run.pk}/samples/compare"
    page = pages.get(address, {"of": last.pk}).content.decode()
    assert "<del>&lt;b&gt;four&lt;/b&gt;</del>" in page
    assert "<mark>two</mark>" in page
    assert "<b>four" not in page
    assert page.count("<option") == 6
    chosen = pages.get(address, {"a": last.pk, "b": first.pk}).content.decode()
    assert "<del>two</del>" in chosen
    alone = pages.get(address, {"of": held_out.pk}).content.decode()
    assert "Both say the same." in alone
    for pk in ("nonsense", "0", "9" * 30):
        assert pages.get(address, {"of": pk}).status_code == 404


def test_another_runs_answer_is_not_compared(pages: Client, run: Run) -> None:
    theirs = rollout(make_run(run.team, "other"), 1, "theirs", 1)
    rollout(run, 1, "ours", 1)
    assert pages.get(f"/runs/{run.pk}/samples/compare", {"of": theirs.pk}).status_code == 404
    page = pages.get(f"/runs/{run.pk}/samples/compare", {"a": theirs.pk}).content.decode()
    assert "theirs" not in page


def test_words_are_compared_and_very_long_answers_are_not() -> None:
    old, new = both_sides("a b c", "a x c d")
    assert [(piece.text, piece.is_new) for piece in old] == [("a ", False), ("b", True), (" c", False)]
    assert [(piece.text, piece.is_new) for piece in new] == [
        ("a ", False),
        ("x", True),
        (" c", False),
        (" d", True),
    ]
    assert [piece.text for piece in both_sides("one two", "one 2 and 3")[1] if piece.is_new] == ["2 and 3"]
    assert [len(pieces) for pieces in both_sides("a " * 5000, "b " * 5000)] == [1, 1]


def test_ticked_answers_become_a_dataset(pages: Client, run: Run) -> None:
    samples = [rollout(run, n, f"answer {n}", n / 10) for n in range(3)]
    page = shown(pages, run)
    assert page.count("data-tick") == 3
    address = f"/runs/{run.pk}/dataset"
    form = pages.get(address, {"sample": [one.pk for one in samples[:2]]}).content.decode()
    assert "2 answers" in form
    assert f'name="sample" value="{samples[1].pk}"' in form
    sent = {"sample": [one.pk for one in samples[:2]], "take": "chosen", "format": "prompt-completion", "name": "mine"}
    answer = pages.post(address, sent)
    version = DatasetVersion.objects.get(dataset__name="mine")
    assert (answer.status_code, answer["Location"]) == (302, f"/datasets/{version.dataset_id}")
    assert version.derivation["samples"] == [one.pk for one in samples[:2]]
    assert "mine" in pages.get(f"/runs/{run.pk}").content.decode()


def test_answers_are_added_to_a_dataset_of_the_team(pages: Client, run: Run, actor: Actor, other_team: Team) -> None:
    rollout(run, 1, "good", 0.9)
    rollout(run, 2, "bad", 0.1)
    pairs = factories.make_version(actor, "pairs", PAIRS)
    factories.make_version(actor, "talk")
    theirs = Dataset.objects.create(team=other_team, name="theirs")
    address = f"/runs/{run.pk}/dataset"
    form = pages.get(address).content.decode()
    assert "pairs (preference, 3 rows)" in form
    assert "talk" not in form
    sent = {"take": "best", "format": "preference", "dataset": pairs.dataset_id, "least_margin": "0.5"}
    assert pages.post(address, sent).status_code == 302
    assert RunDataset.objects.get().version.number == 2
    refused = pages.post(address, {**sent, "dataset": theirs.pk})
    assert refused.status_code == 422
    assert "Select a valid choice" in refused.content.decode()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"take": "chosen"}, "choose at least one answer"),
        ({"take": "best", "least_reward": "7"}, "the highest is 0.9"),
        ({"take": "best", "least_reward": "much"}, "Enter a number"),
        ({"take": "best", "least_margin": "-1"}, "greater than or equal to 0"),
        ({"take": "best", "name": ""}, "must have 1 to 200 printable characters"),
    ],
)
def test_what_gives_no_rows_is_said_on_the_form(pages: Client, run: Run, values: dict[str, str], says: str) -> None:
    rollout(run, 1, "good", 0.9)
    sent = {"format": "prompt-completion", "name": "kept as typed", **values}
    answer = pages.post(f"/runs/{run.pk}/dataset", sent)
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert sent["name"] in answer.content.decode()
    assert not Dataset.objects.filter(name="kept as typed").exists()


def test_viewers_compare_but_take_nothing(signed_in: Callable[[User], Client], viewer: User, run: Run) -> None:
    one = rollout(run, 1, "good", 0.9)
    client = signed_in(viewer)
    page = shown(client, run)
    assert "Compare" in page
    assert "data-tick" not in page
    assert "Add to a dataset" not in page
    assert client.get(f"/runs/{run.pk}/samples/compare", {"of": one.pk}).status_code == 200
    assert client.get(f"/runs/{run.pk}/dataset").status_code == 403
