"""The workbench's pages: trying rewards, reading what came out, pinning."""

import re
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tests.support.checkpoints import make_checkpoint
from tests.support.runs import make_run
from tests.webapp.workbench.conftest import MakeTrial
from webapp.accounts.models import Team
from webapp.claimed import WorkStatus
from webapp.datasets.models import DatasetVersion
from webapp.runs.models import RewardList, RunSample
from webapp.workbench.models import RewardTrial

FORM = {"config.rewards.math": "1", "config.rewards.length": "0.5", "most": "50"}


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_rewards_are_tried_from_the_form(pages: Client, sums: DatasetVersion, team: Team) -> None:
    assert f'value="dataset:{sums.dataset_id}"' in text(pages.get("/workbench/"))
    answer = pages.post("/workbench/", FORM | {"source": f"dataset:{sums.dataset_id}"})
    made = RewardTrial.objects.get()
    assert answer.url == f"/workbench/{made.pk}"
    assert (made.dataset_version, made.most, made.names) == (sums, 50, ["math", "length"])
    shown = text(pages.get(answer.url))
    assert 'hx-trigger="every 2s"' in shown
    assert "math, length on sums" in shown
    again = text(pages.get(f"/workbench/?like={made.pk}"))
    assert f'value="dataset:{sums.dataset_id}" selected' in again
    assert re.search(r'name="config.rewards.length"[^>]* value="0.5"', again)


def test_a_run_is_offered_once_it_has_samples(pages: Client, team: Team) -> None:
    run = make_run(team, "wrote")
    assert str(run.pk) not in text(pages.get("/workbench/"))
    RunSample.objects.create(run=run, step=1, offset=0, prompt="?", completion="!")
    assert f'value="run:{run.pk}" selected' in text(pages.get(f"/workbench/?run={run.pk}"))
    assert pages.post("/workbench/", FORM | {"source": f"run:{run.pk}"}).status_code == 302


@pytest.mark.parametrize(
    ("posted", "said"),
    [
        ({"source": ""}, "either a dataset or a run"),
        ({"most": "many"}, "must be a whole number"),
        ({"config.rewards.regex": "1"}, "must be a regular expression while regex has a weight"),
        ({"config.rewards.reward_model": "1"}, "must name a reward model"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(
    pages: Client, sums: DatasetVersion, posted: dict[str, str], said: str
) -> None:
    answer = pages.post("/workbench/", FORM | {"source": f"dataset:{sums.dataset_id}"} | posted)
    assert answer.status_code == 422
    assert said.lower() in text(answer).lower()
    assert not RewardTrial.objects.exists()


def test_a_judge_is_asked_for_as_soon_as_it_has_a_weight(pages: Client, sums: DatasetVersion, team: Team) -> None:
    judge = make_checkpoint(team, "judges")
    changed = FORM | {"source": f"dataset:{sums.dataset_id}", "config.rewards.judge": "1"}
    shown = text(pages.post("/workbench/", changed, headers={"HX-Request": "true"}))
    assert 'id="judge_model"' in shown
    assert str(judge.pk) in shown
    assert not RewardTrial.objects.exists()
    assert pages.post("/workbench/", changed | {"judge_model": str(judge.pk)}).status_code == 302
    made = RewardTrial.objects.get()
    assert made.judge_model is not None
    assert made.judge_model.checkpoint == judge


def test_what_came_out_is_shown_and_paged(pages: Client, make_trial: MakeTrial) -> None:
    made = make_trial(rows=45)
    shown = text(pages.get(f"/workbench/{made.pk}"))
    assert "math did not judge 1 of 45 answers" in shown
    assert "length gives every answer 1" in shown
    assert "2.22 %" in shown
    assert re.findall(r"answer (\d+)</p>", shown) == [str(place) for place in range(20)]
    assert "offset=20" in shown
    last = text(pages.get(f"/workbench/{made.pk}?order=highest&offset=40"))
    assert re.findall(r"answer (\d+)</p>", last) == ["4", "3", "2", "1", "0"]
    part = text(pages.get(f"/workbench/{made.pk}?order=lowest", headers={"HX-Request": "true"}))
    assert part.startswith('<section class="stack" id="trial-rows"')
    assert re.findall(r"answer (\d+)</p>", part)[:2] == ["1", "2"]
    assert pages.get(f"/workbench/{made.pk}?order=worst&offset=-1").status_code == 200
    ended = pages.get(f"/workbench/{made.pk}", headers={"HX-Request": "true"})
    assert ended.headers["HX-Refresh"] == "true"


def test_lists_take_as_many_queries_however_long_they_are(
    pages: Client, make_trial: MakeTrial, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    made = make_trial(rows=30)
    pages.get("/workbench/")
    for _ in range(4):
        make_trial(rows=2)
        pages.post(f"/workbench/{made.pk}/pin", {"name": "sums", "project": "Experiments"})
    with django_assert_max_num_queries(16):
        pages.get("/workbench/")
    with django_assert_max_num_queries(12):
        pages.get(f"/workbench/{made.pk}")


def test_a_trial_is_pinned_under_a_name_and_a_version(pages: Client, make_trial: MakeTrial, team: Team) -> None:
    made = make_trial(rows=2)
    for _ in range(2):
        assert pages.post(f"/workbench/{made.pk}/pin", {"name": " sums ", "project": "Maths"}).status_code == 302
    pinned = RewardList.objects.order_by("version")
    assert [str(one) for one in pinned] == ["sums v1", "sums v2"]
    assert all(one.project.name == "Maths" and one.rewards == made.rewards for one in pinned)
    assert "sums v2" in text(pages.get("/workbench/"))
    refused = pages.post(f"/workbench/{made.pk}/pin", {"name": "", "project": "Maths"})
    assert refused.status_code == 422
    assert "must have 1 to 100 characters" in text(refused)


def test_a_trial_is_stopped(pages: Client, make_trial: MakeTrial) -> None:
    made = make_trial()
    assert pages.post(f"/workbench/{made.pk}/stop").url == f"/workbench/{made.pk}"
    made.refresh_from_db()
    assert made.status == WorkStatus.STOPPED


def test_a_viewer_reads_and_tries_nothing(signed_in: Any, viewer: Any, make_trial: MakeTrial) -> None:
    made, client = make_trial(rows=2), signed_in(viewer)
    assert 'id="trial-form"' not in text(client.get("/workbench/"))
    assert "Pin for runs" not in text(client.get(f"/workbench/{made.pk}"))
    assert client.post("/workbench/", FORM).status_code in (403, 422)
    assert client.post(f"/workbench/{made.pk}/pin", {"name": "x"}).status_code == 403
