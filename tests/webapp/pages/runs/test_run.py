"""A run's page in every state, what one can do there, and the parts that hang on it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.checkpoints import make_checkpoint
from tests.support.runs import make_run
from tests.webapp.pages.runs.conftest import HTMX, line, log, text
from webapp.accounts.models import Team, User
from webapp.runs.models import Run, RunCheckpoint, RunLog, RunSample, Status, Worker

Fragment = Callable[[str], str]
FAILURE = {"code": "data.empty", "message": "No row is left.", "advice": "Loosen the filter.", "fields": {}}


def path(run: Run, part: str = "") -> str:
    return f"/runs/{run.pk}{part}"


def sample(run: Run, step: int, prompt: str, completion: str, **data: Any) -> RunSample:
    offset = RunSample.objects.filter(run=run).count()
    return RunSample.objects.create(
        run=run, step=step, offset=offset, prompt=prompt, completion=completion, data={"row": 3, **data}
    )


def checkpoint(run: Run, step: int) -> RunCheckpoint:
    made = make_checkpoint(run.team, f"{run.name} @ {step}", step=step, base_model=run.model)
    return RunCheckpoint.objects.create(run=run, checkpoint=made, step=step)


# --- the head ---------------------------------------------------------------------------------------------------------


def test_a_queued_run_says_why_it_waits_and_can_be_stopped(pages: Client, run: Run) -> None:
    shown = text(pages.get(path(run)))
    assert "No worker for training is alive" in shown
    assert "Stop my run? It has not started" in shown
    assert "No curves yet" in shown


def test_a_running_run_shows_how_far_it_is(fragment: Fragment, team: Team) -> None:
    worker = Worker.objects.create(name="box:7", host="box", heartbeat_at=timezone.now())
    run = make_run(
        team,
        status=Status.RUNNING,
        step=20,
        total_steps=80,
        started_at=timezone.now() - timedelta(seconds=100),
        worker=worker,
        progress={"phase": "training", "tokens": 12345},
        tags=["night"],
    )
    log(run, loss=line(3, 2, 20), eval__loss=[2.9, 2.4])
    shown = fragment(path(run))
    for expected in ("Training", 'aria-valuenow="25"', "5 min ", "12,345", "box:7", "?tag=night", "keeps a final"):
        assert expected in shown
    assert "held out 2.4 at step 2" in shown
    assert "<html" not in shown
    assert 'id="checkpoint-count" hx-swap-oob="true"' in shown


def test_a_failed_run_says_why_and_what_to_do(pages: Client, team: Team) -> None:
    run = make_run(team, status=Status.FAILED, error=FAILURE)
    shown = text(pages.get(path(run)))
    for expected in ("No row is left.", "Loosen the filter.", f"?clone={run.pk}", "Run again", "Nothing was logged"):
        assert expected in shown
    checkpoint(run, 20)
    assert "Resume" in text(pages.get(path(run), headers=HTMX))


def test_advice_stands_above_the_state(pages: Client, run: Run) -> None:
    log(run, loss=[0.0] * 5)
    shown = text(pages.get(path(run)))
    assert shown.index("No token is trained on") < shown.index('aria-label="State"')


def test_a_finished_run_shows_what_came_out(pages: Client, team: Team) -> None:
    end = timezone.now()
    run = make_run(
        team, status=Status.SUCCEEDED, step=40, total_steps=40, started_at=end - timedelta(seconds=90), finished_at=end
    )
    log(run, loss=line(3, 1), eval__loss=line(3, 1.25))
    shown = text(pages.get(path(run)))
    assert "1 min 30 s" in shown
    assert "held out 1.25<" in shown
    assert "run-stop" not in shown
    assert "Delete my run" not in shown


@pytest.mark.parametrize("method", ["dpo", "no-longer-there"])
def test_the_page_stands_whatever_the_method(pages: Client, team: Team, method: str) -> None:
    run = make_run(team, method=method, config={"beta": 0.1})
    log(run, rewards__margins=line(0, 1))
    shown = text(pages.get(path(run)))
    assert ("Reward margin" in shown) == (method == "dpo")


def test_a_figure_that_is_measured_on_held_out_prompts_alone_is_shown(pages: Client, team: Team) -> None:
    run = make_run(team, method="rejection-sampling", status=Status.RUNNING, step=2, total_steps=4)
    log(run, eval__accuracy=[0.25, 0.5])
    shown = text(pages.get(path(run)))
    assert '<span>Accuracy</span><b><span class="held-out"> held out 0.5' in shown


def test_a_run_that_trains_nothing_speaks_of_no_checkpoint(pages: Client, team: Team) -> None:
    run = make_run(team, method="test-time-scaling", status=Status.PAUSED, step=2, total_steps=4)
    shown = text(pages.get(path(run)))
    assert "it goes on with what it has made" in shown
    assert "Resume</button>" in shown
    assert "They are drawn once every row is done" in shown
    for absent in ("tab-checkpoints", 'id="checkpoints"', "<dt>Checkpoints</dt>", "last checkpoint"):
        assert absent not in shown
    assert "checkpoint-count" not in text(pages.get(path(run), headers=HTMX))
    run.status = Status.RUNNING
    run.save()
    assert "counts those it has; it can be resumed" in text(pages.get(path(run)))


def test_names_and_notes_are_only_text(pages: Client, team: Team) -> None:
    run = make_run(team, "<b>x</b>", notes="<script>alert(1)</script>", tags=['"><i>'])
    sample(run, 1, "<u>", "<s>")
    RunLog.objects.create(run=run, offset=0, text="<em>\n")
    for part in ("", "/samples", "/log"):
        shown = text(pages.get(path(run, part)))
        for raw in ("<b>x", "<script>alert", '"><i>', "<u>", "<s>", "<em>"):
            assert raw not in shown


def test_the_head_takes_few_queries(pages: Client, run: Run, django_assert_max_num_queries: Any) -> None:
    log(run, **{f"extra__{number}": [1.0] for number in range(30)}, loss=line(3, 1))
    for step in range(5):
        checkpoint(run, step)
    with django_assert_max_num_queries(16):
        pages.get(path(run), headers=HTMX)
    with django_assert_max_num_queries(24):
        pages.get(path(run))


# --- what people do ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "action", "after"),
    [
        (Status.RUNNING, "stop", Status.STOPPING),
        (Status.RUNNING, "pause", Status.PAUSING),
        (Status.QUEUED, "stop", Status.STOPPED),
        (Status.PAUSED, "resume", Status.QUEUED),
        (Status.FAILED, "resume", Status.QUEUED),
    ],
)
def test_the_buttons_do_what_they_say(pages: Client, team: Team, before: str, action: str, after: str) -> None:
    run = make_run(team, status=before)
    answer = pages.post(path(run, f"/{action}"), headers=HTMX)
    assert 'id="run-head"' in text(answer)
    run.refresh_from_db()
    assert run.status == after
    answer = pages.post(path(run, f"/{action}"))
    assert answer.status_code == 409 if action != "resume" else answer.status_code in (302, 409)


def test_an_action_that_is_none_is_not_there(pages: Client, run: Run) -> None:
    assert pages.post(path(run, "/explode")).status_code == 404


def test_name_tags_and_notes_are_edited(pages: Client, run: Run) -> None:
    pages.post(path(run, "/edit"), {"name": "better\0", "tags": "a, b ,a", "notes": "Read me."})
    run.refresh_from_db()
    assert (run.name, run.tags, run.notes) == ("better", ["a", "b"], "Read me.")


@pytest.mark.parametrize(("name", "said"), [("", "1 to 200"), ("x" * 201, "1 to 200")])
def test_an_edit_that_is_refused_says_what_would_be_right(pages: Client, run: Run, name: str, said: str) -> None:
    shown = text(pages.post(path(run, "/edit"), {"name": name}, follow=True))
    assert said in shown
    run.refresh_from_db()
    assert run.name == "my run"


def test_a_run_is_deleted_by_who_launched_it(pages: Client, team: Team, member: User) -> None:
    run = make_run(team, created_by=member, status=Status.SUCCEEDED)
    shown = text(pages.post(path(run, "/delete"), follow=True))
    assert "is deleted" in shown
    assert not Run.objects.exists()


def test_a_viewer_sees_no_buttons(signed_in: Callable[[User], Client], viewer: User, run: Run) -> None:
    shown = text(signed_in(viewer).get(path(run)))
    for absent in ("run-stop", "run-pause", "Clone with changes", "edit-run"):
        assert absent not in shown


# --- samples ----------------------------------------------------------------------------------------------------------


def test_samples_stand_beside_those_before_training(fragment: Fragment, run: Run) -> None:
    for step, answer in ((0, "I do not know."), (10, "I do know: 5."), (20, "It is 5.")):
        sample(run, step, "2 + 3?", answer, reference="5", accuracy=0.75)
    shown = fragment(path(run, "/samples")).replace("<mark>", "").replace("</mark>", "")
    for expected in ("2 + 3?", "I do not know.", "It is 5.", "Reference", "accuracy 0.75", "data-follow"):
        assert expected in shown
    assert "row 3" not in shown
    earlier = fragment(path(run, "/samples?step=10"))
    assert '<p class="pre">I do <mark>' in earlier
    assert "data-follow" not in earlier  # what people chose to read stays
    assert "It is 5." not in earlier


def test_a_prompt_s_answers_at_every_step(fragment: Fragment, run: Run) -> None:
    first = sample(run, 0, "2 + 3?", "6")
    sample(run, 10, "2 + 3?", "5")
    sample(run, 10, "1 + 1?", "other")
    shown = fragment(path(run, f"/samples?like={first.pk}"))
    assert shown.index("Step 10") < shown.index("Step 0")
    assert "other" not in shown


def rollout(run: Run, step: int, group: int, completion: str, reward: float | None, advantage: float) -> RunSample:
    made = sample(
        run,
        step,
        f"prompt {group}?",
        completion,
        group=group,
        reference="5",
        rewards={"math": reward, "length": 0.25},
        reward=reward,
        advantage=advantage,
    )
    RunSample.objects.filter(pk=made.pk).update(is_rollout=True)
    return made


def test_answers_learned_from_stand_by_prompt_and_by_what_they_got(
    fragment: Fragment, run: Run, django_assert_num_queries: Any
) -> None:
    sample(run, 0, "held out?", "yes")
    rollout(run, 1, 0, "an earlier answer", 0.5, 0.0)
    for group, text_, reward, advantage in (
        (0, "a poor one", 0.125, -1.5),
        (0, "a fair one", 0.5, 0.75),
        (1, "<b>the best</b>", 1.0, 0.25),
        (1, "one without a reward", None, 0.0),
    ):
        rollout(run, 2, group, text_, reward, advantage)
    shown = fragment(path(run, "/samples?show=rollouts"))
    order = ["&lt;b&gt;the best", "one without a reward", "a fair one", "a poor one"]
    assert sorted(order, key=shown.index) == order, "by prompt, the highest reward first"
    assert "reward 0.125" in shown
    assert "math not judged, length 0.25" in shown
    assert "held out?" not in shown
    assert "earlier" not in shown
    assert "data-follow" in shown
    order = ["a fair one", "a poor one", "&lt;b&gt;the best", "one without a reward"]
    shown = fragment(path(run, "/samples?show=rollouts&sort=advantage"))
    assert sorted(order, key=shown.index) == order
    shown = fragment(path(run, "/samples?show=rollouts&step=1"))
    assert "an earlier answer" in shown
    assert "data-follow" not in shown
    for group in range(2, 20):
        rollout(run, 2, group, "more", 0.0, 0.0)
    with django_assert_num_queries(6):
        fragment(path(run, "/samples?show=rollouts"))


def test_how_an_answer_came_stands_above_it(fragment: Fragment, run: Run) -> None:
    made = rollout(run, 0, 0, "the revision", 1.0, 0.5)
    made.data["note"] = "Critique: <i>too long</i>"
    made.is_rollout = True
    made.save()
    shown = fragment(path(run, "/samples?show=rollouts"))
    assert shown.index("Critique: &lt;i&gt;too long") < shown.index(">the revision")


def test_a_step_that_was_done_again_after_a_resume_is_shown_once(fragment: Fragment, run: Run) -> None:
    for said in ("at first", "again"):
        for place in range(2):
            made = rollout(run, 3, 0, f"{said} {place}", 1.0, 0.0)
            made.data["place"] = place
            made.is_rollout = True
            made.save()
    shown = fragment(path(run, "/samples?show=rollouts"))
    assert "at first" not in shown
    assert "again 0" in shown
    assert "again 1" in shown


def test_answers_learned_from_are_no_answers_to_held_out_prompts(fragment: Fragment, run: Run) -> None:
    sample(run, 0, "held out?", "before")
    sample(run, 4, "held out?", "after")
    assert "samples-show" not in fragment(path(run, "/samples"))
    rollout(run, 5, 0, "learned from", 1.0, 0.5)
    shown = fragment(path(run, "/samples"))
    assert "samples-show" in shown
    assert "learned from</p>" not in shown
    assert "4 (newest)" in shown


@pytest.mark.parametrize("query", ["", "&step=x", "&step=7", "&sort=nonsense"])
def test_a_run_that_has_not_answered_yet_says_when_it_will(fragment: Fragment, run: Run, query: str) -> None:
    assert "No answers yet" in fragment(path(run, f"/samples?show=rollouts{query}"))


def test_of_many_steps_the_newest_and_the_first_are_offered(
    fragment: Fragment, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.runs.selectors.MAX_STEPS", 3)
    for step in range(6):
        sample(run, step, "held out?", "yes")
    shown = fragment(path(run, "/samples"))
    assert [f'<option value="{step}"' in shown for step in range(6)] == [True, False, False, True, True, True]


def test_samples_of_another_run_are_not_shown(fragment: Fragment, run: Run, other_team: Team) -> None:
    theirs = sample(make_run(other_team, "theirs"), 0, "secret?", "secret")
    assert "secret" not in fragment(path(run, f"/samples?like={theirs.pk}"))


@pytest.mark.parametrize("query", ["", "?step=7", "?step=x", "?like=999", "?like=-1"])
def test_a_run_without_samples_says_when_they_come(fragment: Fragment, run: Run, query: str) -> None:
    assert "<html" not in fragment(path(run, f"/samples{query}"))


# --- log, config, checkpoints -----------------------------------------------------------------------------------------


def test_the_log_shows_its_end_and_can_be_searched(fragment: Fragment, run: Run) -> None:
    RunLog.objects.create(run=run, offset=0, text="".join(f"line {number}\n" for number in range(1500)))
    shown = fragment(path(run, "/log"))
    assert "line 1499" in shown
    assert "line 499\n" not in shown
    assert f'data-end="{sum(len(f"line {number}{chr(10)}") for number in range(1500))}"' in shown
    found = fragment(path(run, "/log?q=LINE 1234"))
    assert "line 1234" in found
    assert "line 1235" not in found
    assert "data-still" in found
    assert "holds “nothing”" in fragment(path(run, "/log?q=nothing"))


def test_the_whole_log_is_a_file(pages: Client, run: Run) -> None:
    RunLog.objects.create(run=run, offset=6, text="two\n")
    RunLog.objects.create(run=run, offset=0, text="<one>\n")
    answer = pages.get(path(run, "/log.txt"))
    assert answer.content == b"<one>\ntwo\n"
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "attachment" in answer.headers["Content-Disposition"]


def test_the_config_shows_what_differs_from_the_defaults_or_the_parent(pages: Client, team: Team) -> None:
    from polm_core import catalogue

    config = catalogue.get("sft").default_config()
    parent = make_run(team, "the parent", config={**config, "batch_size": 3})
    shown = text(pages.get(path(parent)))
    assert "Changed from the method" in shown
    assert "<code>batch_size</code>" in shown
    assert "<code>seed</code>" not in shown
    child = make_run(team, "the child", config={**config, "batch_size": 3, "seed": 7}, parent=parent)
    shown = text(pages.get(path(child)))
    assert "the parent" in shown
    assert "<code>seed</code>" in shown
    assert "<code>batch_size</code>" not in shown
    assert "seed: 7" in pages.get(path(child, "/config.yaml")).content.decode()


def test_checkpoints_show_the_method_s_figures(fragment: Fragment, run: Run) -> None:
    assert "No checkpoint yet" in fragment(path(run, "/checkpoints"))
    link = checkpoint(run, 20)
    shown = fragment(path(run, "/checkpoints"))
    for expected in ("Step 20", "1.5", "held out", f"/models/checkpoints/{link.checkpoint_id}/download", "Train on"):
        assert expected in shown


def test_lineage_leads_both_ways(pages: Client, team: Team, run: Run) -> None:
    link = checkpoint(run, 20)
    start = make_checkpoint(team, "x").base_model
    assert start is not None
    start.checkpoint = link.checkpoint
    start.save()
    child = make_run(team, "went on", model=start)
    clone = make_run(team, "twin", parent=run)
    shown = text(pages.get(path(run)))
    for other in (child, clone):
        assert path(other) in shown
    taught = make_run(team, "taught", method="distill", teacher_model=start)
    assert f'<dt>Teacher</dt><dd><a href="/models/checkpoints/{link.checkpoint_id}">' in text(pages.get(path(taught)))
    assert path(run) in text(pages.get(path(clone)))
