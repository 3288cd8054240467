"""Datasets made of the answers that a run's model wrote, by the real worker function."""

from collections.abc import Callable
from typing import Any

import pytest

from polm_core.data.rows import read_rows
from tests.support import factories
from tests.support.api import ApiClient
from tests.support.runs import make_run
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Membership, Role, Team, User
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.errors import Conflict, Forbidden, Invalid
from webapp.runs.answers import dataset_of_answers
from webapp.runs.models import Run, RunDataset, RunSample
from webapp.runs.services import run_delete
from workers.datasets import process

PAIRS = b"".join(b'{"prompt": "%d?", "chosen": "yes", "rejected": "no"}\n' % n for n in range(3))
Answers = dict[str, RunSample]


@pytest.fixture
def run(team: Team, member: User) -> Run:
    return make_run(team, "learns", method="rloo", status="succeeded", created_by=member)


@pytest.fixture
def answers(run: Run) -> Answers:
    """Rollouts by their text: three to one prompt, two equal ones to the next, one to the last; and a held-out one."""
    rewards = [
        ("a", "worst", 0.1, 1),
        ("a", "best", 0.9, 1),
        ("a", "middling", 0.5, 2),
        ("b", "same", 0.2, 1),
        ("b", " same\n", 0.6, 2),
        ("c", "alone", 0.7, 2),
        ("d", "  ", 1.0, 2),
        ("d", "not judged", None, 2),
    ]
    made = [
        RunSample.objects.create(
            run=run,
            step=step,
            offset=offset,
            prompt=prompt,
            completion=text,
            is_rollout=True,
            data={"reward": reward, "advantage": reward, "group": 0, "place": offset},
        )
        for offset, (prompt, text, reward, step) in enumerate(rewards)
    ]
    held_out = RunSample.objects.create(run=run, step=2, offset=99, prompt="held out", completion="fine", data={})
    return {one.completion: one for one in [*made, held_out]}


def finished(version: DatasetVersion) -> DatasetVersion:
    process(str(version.pk))
    version.refresh_from_db()
    return version


def rows_of(version: DatasetVersion) -> list[dict[str, Any]]:
    return read_rows(artifacts.local_folder(version.rows_key), 0, 100)


def said(row: dict[str, Any], *columns: str) -> list[str]:
    return [row[column][0]["content"] for column in columns]


def test_chosen_answers_become_rows_in_a_new_dataset(run: Run, answers: Answers, actor: Actor) -> None:
    chosen = [answers[text].pk for text in ("middling", "fine", "worst")]
    version = finished(
        dataset_of_answers(actor=actor, run=run, format="prompt-completion", samples=chosen, name="mine")
    )
    assert (version.status, version.format, version.rows) == ("ready", "prompt-completion", 3), version.report
    assert [said(row, "prompt", "completion") for row in rows_of(version)] == [
        ["a", "worst"],
        ["a", "middling"],
        ["held out", "fine"],
    ]
    assert (version.dataset.name, version.dataset.origin) == ("mine", "distilled")
    assert version.dataset.origin_model == "base, trained by learns"
    assert version.derivation["run_name"] == "learns"
    assert RunDataset.objects.get(version=version).run == run


def test_the_best_answer_to_each_prompt_above_a_reward(run: Run, answers: Answers, actor: Actor) -> None:
    made = dataset_of_answers(actor=actor, run=run, format="prompt-completion", least_reward=0.65, name="best")
    assert [said(row, "prompt", "completion") for row in rows_of(finished(made))] == [["a", "best"], ["c", "alone"]]


@pytest.mark.parametrize(("margin", "pairs"), [(0.0, [["best", "worst"]]), (0.8, [["best", "worst"]])])
def test_the_best_against_the_worst_answer(
    run: Run, answers: Answers, actor: Actor, margin: float, pairs: list[list[str]]
) -> None:
    made = dataset_of_answers(actor=actor, run=run, format="preference", least_margin=margin, name="pairs")
    assert [said(row, "chosen", "rejected") for row in rows_of(finished(made))] == pairs


def test_pairs_of_chosen_answers_alone(run: Run, answers: Answers, actor: Actor) -> None:
    chosen = [answers[text].pk for text in ("middling", "worst", "alone")]
    made = dataset_of_answers(actor=actor, run=run, format="preference", samples=chosen, name="pairs")
    assert [said(row, "prompt", "chosen", "rejected") for row in rows_of(finished(made))] == [
        ["a", "middling", "worst"]
    ]


def test_prompts_are_put_as_they_were_asked(run: Run, actor: Actor) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    for offset, data in enumerate(({"turns": turns}, {"raw": True}, {})):
        RunSample.objects.create(run=run, step=1, offset=offset, prompt="1 + 1?", completion=" 2", data=data)
    chosen = list(RunSample.objects.values_list("pk", flat=True))
    # Equal as texts, of which one is enough: so each by itself.
    rows = [
        rows_of(
            finished(dataset_of_answers(actor=actor, run=run, format="prompt-completion", samples=[pk], name=f"{pk}"))
        )
        for pk in chosen
    ]
    answer = [{"role": "assistant", "content": "2"}]
    assert rows == [
        [{"prompt": turns, "completion": answer}],
        [{"prompt": "1 + 1?", "completion": " 2"}],
        [{"prompt": [{"role": "user", "content": "1 + 1?"}], "completion": answer}],
    ]


def test_rows_are_added_to_a_dataset_of_the_same_format(run: Run, answers: Answers, actor: Actor) -> None:
    base = factories.make_version(actor, "pairs", PAIRS)
    made = finished(dataset_of_answers(actor=actor, run=run, format="preference", dataset=base.dataset))
    assert (made.dataset_id, made.number, made.status, made.rows) == (base.dataset_id, 2, "ready", 4)
    assert made.made_from == base
    assert [said(row, "chosen", "rejected") for row in rows_of(made)] == [*[["yes", "no"]] * 3, ["best", "worst"]]
    base.refresh_from_db()
    assert base.rows == 3


@pytest.mark.parametrize(
    ("texts", "format", "says"),
    [
        ([], "prompt-completion", "No answer is chosen"),
        ([], "preference", "No answer is chosen"),
        (["  "], "prompt-completion", "Every chosen answer is empty"),
        (["best", "alone"], "preference", "each prompt has a single one"),
        (["same", " same\n"], "preference", "are equal"),
        (["best", "middling"], "preference", "at least 0.5 apart"),
        (["fine"], "preference", "have no rewards"),
        (["best"], "text", "The format is not accepted"),
    ],
)
def test_answers_that_give_no_row(
    run: Run, answers: Answers, actor: Actor, texts: list[str], format: str, says: str
) -> None:
    chosen = [answers[text].pk for text in texts]
    with pytest.raises(Invalid, match=says):
        dataset_of_answers(actor=actor, run=run, format=format, samples=chosen, least_margin=0.5, name="none")
    assert not Dataset.objects.filter(name="none").exists()


def test_a_reward_that_no_answer_has(run: Run, answers: Answers, actor: Actor) -> None:
    with pytest.raises(Invalid, match="so high a reward") as refusal:
        dataset_of_answers(actor=actor, run=run, format="prompt-completion", least_reward=3, name="none")
    assert refusal.value.fields == {"least_reward": ["the highest is 1"]}
    with pytest.raises(Invalid, match="no answers with rewards"):
        dataset_of_answers(actor=actor, run=make_run(run.team, "other"), format="preference", name="none")


def test_a_margin_that_no_pair_has_is_said_by_the_worker(run: Run, answers: Answers, actor: Actor) -> None:
    made = finished(dataset_of_answers(actor=actor, run=run, format="preference", least_margin=5, name="none"))
    assert (made.status, made.report["error"]["code"]) == ("invalid", "data.no-answers")


def test_another_runs_answers_are_not_there(run: Run, answers: Answers, actor: Actor, team: Team) -> None:
    with pytest.raises(Invalid, match="not the run's"):
        dataset_of_answers(
            actor=actor,
            run=make_run(team, "other"),
            format="prompt-completion",
            samples=[answers["best"].pk],
            name="none",
        )


def test_the_run_is_deleted_before_its_turn(run: Run, answers: Answers, actor: Actor) -> None:
    made = dataset_of_answers(actor=actor, run=run, format="preference", name="late")
    run_delete(actor=actor, run=run)
    made = finished(made)
    assert made.status == "invalid"
    assert made.report["error"]["message"] == "The run learns is deleted, and its answers with it."


def test_targets_that_do_not_fit(run: Run, answers: Answers, actor: Actor, member: User, other_team: Team) -> None:
    talk = factories.make_version(actor, "talk")
    with pytest.raises(Invalid, match="talk holds conversation"):
        dataset_of_answers(actor=actor, run=run, format="preference", dataset=talk.dataset)
    waiting = Dataset.objects.create(team=run.team, name="waiting")
    DatasetVersion.objects.create(dataset=waiting)
    with pytest.raises(Conflict, match="still being processed"):
        dataset_of_answers(actor=actor, run=run, format="preference", dataset=waiting)
    Membership.objects.create(team=other_team, user=member, role=Role.MEMBER)
    theirs = Dataset.objects.create(team=other_team, name="theirs")
    with pytest.raises(Invalid, match="another team") as refusal:
        dataset_of_answers(actor=Actor(member), run=run, format="preference", dataset=theirs)
    assert list(refusal.value.fields) == ["dataset"]
    assert not RunDataset.objects.exists()


def test_answers_of_a_teacher_are_not_the_model_s(run: Run, actor: Actor) -> None:
    theirs = RunSample.objects.create(
        run=run,
        step=0,
        offset=0,
        prompt="a",
        completion="well said",
        is_rollout=True,
        data={"by": "teacher", "reward": 1},
    )
    for samples, says in (([theirs.pk], "not the run's"), (None, "no answers with rewards")):
        with pytest.raises(Invalid, match=says):
            dataset_of_answers(actor=actor, run=run, format="prompt-completion", samples=samples)


def test_viewers_make_nothing(run: Run, answers: Answers, viewer: User) -> None:
    with pytest.raises(Forbidden):
        dataset_of_answers(actor=Actor(viewer), run=run, format="preference", name="none")


def test_over_the_api(run: Run, answers: Answers, api: ApiClient, api_of: Callable[[User], ApiClient]) -> None:
    body = {"format": "preference", "least_margin": 0.3, "name": "pairs"}
    answer = api.post(f"/runs/{run.pk}/dataset", body)
    assert answer.status_code == 201, answer.content
    made = finished(DatasetVersion.objects.get(dataset=answer.json()["id"]))
    assert (answer.json()["version"], made.rows) == (1, 1)
    again = api.post(f"/runs/{run.pk}/dataset", {"format": "preference", "dataset": str(made.dataset_id)})
    assert (again.status_code, again.json()["version"]) == (201, 2)
    both = api.post(f"/runs/{run.pk}/dataset", {**body, "dataset": str(made.dataset_id)})
    assert (both.status_code, sorted(both.json()["error"]["fields"])) == (422, ["dataset", "name"])
    samples = api.get(f"/runs/{run.pk}/samples", {"rollouts": "true", "order": "reward", "limit": 3}).json()
    assert [one["reward"] for one in samples["items"]] == [1.0, 0.9, 0.7]
