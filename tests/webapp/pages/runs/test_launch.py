"""The Launch page: choosing, what is refused beside which field, the preflight, and launching."""

import datetime
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from django.test import Client

from tests.support import factories
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import finished_run, make_run
from tests.webapp.pages.runs.conftest import HTMX, text
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.datasets.models import DatasetVersion, VersionStatus
from webapp.registry.models import BaseModel, Checkpoint, ModelStatus
from webapp.runs.models import Preflight, Run
from webapp.runs.services import preflight_finish

REPORT: dict[str, Any] = {
    "rows_total": 8,
    "rows_used": 7,
    "held_out_rows": 1,
    "duplicate_rows": 0,
    "leaked_rows": 0,
    "truncated_rows": 2,
    "untrained_rows": 0,
    "equal_pairs": 0,
    "steps": 12,
    "tokens": {
        "mean": 20.0,
        "p50": 18,
        "p95": 30,
        "max": 2000,
        "histogram": [{"upto": 1000, "count": 6}, {"upto": 2000, "count": 2}],
    },
    "memory_bytes": 3_000_000_000,
    "memory_available": 4_000_000_000,
    "fit": "fits",
    "disk_bytes": 1_000_000,
    "seconds": 75.0,
    "first_example": {
        "tokens": [{"text": "<user>", "trained": False}, {"text": "yes", "trained": True}],
        "rejected": [],
    },
    "blocking": [],
    "warnings": [],
}


@pytest.fixture
def choice(model: BaseModel, conversations: DatasetVersion) -> dict[str, str]:
    """A choice that is complete."""
    return {"method": "sft", "model": str(model.pk), "dataset": str(conversations.dataset_id)}


def post(client: Client, choice: dict[str, str], **more: str) -> str:
    """The fragment that a change on the page is answered with."""
    return text(client.post("/runs/new", {**choice, **more}, headers=HTMX))


def launch(client: Client, choice: dict[str, str], **more: str) -> Any:
    return client.post("/runs/new", {**choice, **more, "launch": "yes"})


def is_enabled(shown: str) -> bool:
    button = re.search(r'<button[^>]*id="launch-button"[^>]*>', shown)
    assert button is not None
    return " disabled" not in button.group()


def reason(shown: str) -> str:
    found = re.search(r'id="launch-reason"[^>]*>([^<]*)', shown)
    assert found is not None
    return found.group(1)


def options(shown: str, field: str) -> list[str]:
    select = re.search(rf'<select id="{field}".*?</select>', shown, re.DOTALL)
    assert select is not None
    return re.findall(r"<option[^>]*>", select.group())


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_paradigm_and_asks_for_a_method(pages: Client) -> None:
    shown = text(pages.get("/runs/new"))
    for paradigm in ("Fine-tuning", "Alignment", "Reasoning", "Efficiency", "Integration"):
        assert paradigm in shown
    assert not is_enabled(shown)
    assert reason(shown) == "Choose a method."


def test_what_is_missing_is_said_beside_the_button(pages: Client, choice: dict[str, str]) -> None:
    said = [
        reason(post(pages, {name: choice[name] for name in given}))
        for given in ([], ["method"], ["method", "model"], ["method", "model", "dataset"])
    ]
    assert said == ["Choose a method.", "Choose a model to start from.", "Choose a dataset.", "Or press "]


def test_a_link_can_make_choices(pages: Client, choice: dict[str, str]) -> None:
    shown = text(pages.get("/runs/new", choice))
    assert is_enabled(shown)
    assert 'value="sft" aria-describedby="about-sft" checked' in shown
    assert "config.learning_rate" in shown
    assert Preflight.objects.count() == 0  # looking at a page changes nothing


def test_a_link_to_a_checkpoint_far_down_the_list_still_chooses_it(
    pages: Client, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.pages.runs.choices.CHECKPOINTS", 1)
    old, _ = make_checkpoint(team, "old"), make_checkpoint(team, "new")
    shown = text(pages.get(f"/runs/new?model={old.pk}"))
    assert f'value="{old.pk}" selected' in shown


@pytest.mark.parametrize("scoring", ["reward-model", "prm"])
def test_a_reward_model_is_asked_for_once_its_score_has_a_weight(
    pages: Client, choice: dict[str, str], actor: Actor, team: Team, scoring: str
) -> None:
    answers = b"".join(b'{"prompt": "%d + 1 =", "answer": "%d"}\n' % (n, n + 1) for n in range(8))
    rows = factories.make_version(actor, "sums", answers)
    chosen = {**choice, "method": "rloo", "settings_of": "rloo", "dataset": str(rows.dataset_id)}
    writer, scorer = make_checkpoint(team, "writes"), make_checkpoint(team, "scores")
    Checkpoint.objects.filter(pk=scorer.pk).update(method=scoring)
    assert 'select id="reward_model"' not in post(pages, chosen)
    chosen["config.rewards.reward_model"] = "0.5"
    shown = post(pages, chosen)
    assert reason(shown) == "Choose a reward model, or give its score no weight."
    offered = " ".join(options(shown, "reward_model"))
    assert str(scorer.pk) in offered
    assert str(writer.pk) not in offered
    chosen["reward_model"] = str(scorer.pk)
    shown = post(pages, chosen)
    assert is_enabled(shown)
    assert "reward_model:\n  path: ./base\n  adapter: ./scores" in shown
    assert launch(pages, chosen).status_code == 302
    run = Run.objects.get()
    assert run.reward_model is not None
    assert run.reward_model.checkpoint == scorer
    cloned = text(pages.get(f"/runs/new?clone={run.pk}"))
    assert f'<option value="{scorer.pk}" selected>' in cloned


@pytest.mark.parametrize("writeless", ["reward-model", "prm"])
def test_a_judge_is_asked_for_where_a_model_judges(
    pages: Client, choice: dict[str, str], actor: Actor, team: Team, writeless: str
) -> None:
    answers = b"".join(b'{"prompt": "%d + 1 =", "answer": "%d"}\n' % (n, n + 1) for n in range(8))
    rows = factories.make_version(actor, "sums", answers)
    chosen = {**choice, "method": "rloo", "settings_of": "rloo", "dataset": str(rows.dataset_id)}
    writer, scorer = make_checkpoint(team, "writes"), make_checkpoint(team, "scores")
    Checkpoint.objects.filter(pk=scorer.pk).update(method=writeless)
    chosen |= {"config.rewards.judge": "1", "config.rewards.judge_rubric": "Short.\nTrue."}
    shown = post(pages, chosen)
    assert reason(shown) == "Choose a judge model, or give its score no weight."
    offered = " ".join(options(shown, "judge_model"))
    assert str(writer.pk) in offered
    assert str(scorer.pk) not in offered
    chosen["judge_model"] = str(writer.pk)
    assert "judge_model:\n  path: ./base\n  adapter: ./writes" in post(pages, chosen)
    assert launch(pages, chosen).status_code == 302
    run = Run.objects.get()
    assert run.judge_model is not None
    assert run.judge_model.checkpoint == writer
    assert run.config["rewards"]["judge_rubric"] == "Short.\nTrue."
    elsewhere = post(pages, chosen | {"config.rewards.judge_by": "endpoint"})
    assert 'select id="judge_model"' not in elsewhere
    assert is_enabled(elsewhere)


def test_a_teacher_is_asked_for_where_the_method_has_one(pages: Client, choice: dict[str, str], team: Team) -> None:
    teacher, scorer = make_checkpoint(team, "teaches"), make_checkpoint(team, "scores")
    Checkpoint.objects.filter(pk=scorer.pk).update(method="reward-model")
    assert 'select id="teacher_model"' not in post(pages, choice)
    chosen = {**choice, "method": "distill", "settings_of": "distill"}
    shown = post(pages, chosen)
    assert reason(shown) == "Choose a teacher model."
    assert "It has to read the same tokens" in shown
    offered = " ".join(options(shown, "teacher_model"))
    assert str(teacher.pk) in offered
    assert str(scorer.pk) not in offered
    chosen["teacher_model"] = str(teacher.pk)
    shown = post(pages, chosen)
    assert is_enabled(shown)
    assert "teacher_model:\n  path: ./base\n  adapter: ./teaches" in shown
    assert launch(pages, chosen).status_code == 302
    run = Run.objects.get()
    assert run.teacher_model is not None
    assert run.teacher_model.checkpoint == teacher
    assert f'<option value="{teacher.pk}" selected>' in text(pages.get(f"/runs/new?clone={run.pk}"))
    shown = text(pages.get(f"/runs/{run.pk}"))
    assert f'<dt>Teacher</dt><dd><a href="/models/checkpoints/{teacher.pk}">teaches</a>' in shown
    # Another method has none, and the page remembers the choice.
    elsewhere = post(pages, {**chosen, "method": "sft"})
    assert 'select id="teacher_model"' not in elsewhere
    assert f'name="teacher_model" value="{teacher.pk}"' in elsewhere


def test_a_model_cannot_be_launched_as_its_own_teacher(pages: Client, choice: dict[str, str], team: Team) -> None:
    writer = str(make_checkpoint(team, "writes").pk)
    chosen = {**choice, "method": "distill", "settings_of": "distill", "model": writer, "teacher_model": writer}
    answer = launch(pages, chosen)
    assert answer.status_code == 422
    assert "writes would be its own teacher" in answer.content.decode()
    assert not Run.objects.exists()


@pytest.mark.parametrize("link", ["?method=nope", "?model=x&dataset=y", "?clone=x", "?method=s%00ft", "?priority=x"])
def test_a_link_that_makes_no_sense_opens_the_page(pages: Client, link: str) -> None:
    text(pages.get(f"/runs/new{link}"))


def test_datasets_that_do_not_fit_cannot_be_picked_and_the_reason_is_given(
    pages: Client, choice: dict[str, str], pairs: DatasetVersion
) -> None:
    shown = post(pages, {"method": "dpo", "model": choice["model"]})
    entries = {re.search('value="([^"]*)"', option).group(1): option for option in options(shown, "dataset")}  # type: ignore[union-attr]
    assert " disabled" in entries[choice["dataset"]]
    assert " disabled" not in entries[str(pairs.dataset_id)]
    assert "the method needs preference rows" in shown
    # One that was chosen for another method stays to be seen, with what is wrong with it.
    shown = post(pages, {**choice, "method": "dpo"})
    assert "talks does not fit" in reason(shown)
    assert "This method needs preference" in shown


@pytest.mark.parametrize("status", [VersionStatus.PROCESSING, VersionStatus.INVALID])
def test_a_dataset_that_is_not_ready_cannot_be_picked(pages: Client, choice: dict[str, str], status: str) -> None:
    DatasetVersion.objects.update(status=status)
    assert "does not fit" in reason(post(pages, choice))


def test_a_model_that_could_not_be_prepared_cannot_be_started_from(pages: Client, choice: dict[str, str]) -> None:
    BaseModel.objects.update(status=ModelStatus.FAILED)
    assert reason(post(pages, choice)) == "small could not be prepared: choose another model."


def test_things_of_others_cannot_be_chosen(pages: Client, choice: dict[str, str], outsider: User) -> None:
    theirs = factories.make_version(Actor(outsider), "theirs")
    shown = post(pages, {**choice, "dataset": str(theirs.dataset_id)})
    assert "theirs" not in shown
    assert reason(shown) == "Choose a dataset."


def test_choosing_another_method_keeps_what_was_changed_and_nothing_else(
    pages: Client, choice: dict[str, str], pairs: DatasetVersion
) -> None:
    typed = {
        **choice,
        "method": "ipo",
        "dataset": str(pairs.dataset_id),
        "settings_of": "dpo",
        "config.loss": "sigmoid",
        "config.max_steps": "33",
        "config.adapter.type": "lora",
        "name": "as I typed it",
    }
    shown = post(pages, typed)
    config = yaml.safe_load(_snippet(shown, "launch-yaml"))["config"]
    assert config == {"max_steps": 33, "adapter": {"type": "lora"}}
    assert 'value="as I typed it"' in shown


def test_a_bad_value_is_explained_beside_its_field(pages: Client, choice: dict[str, str]) -> None:
    shown = post(pages, choice, **{"config.learning_rate": "quick"})
    field = shown[shown.index('id="config.learning_rate"') :]
    assert "Must be a number, not &#x27;quick&#x27;" in field[: field.index("</div>")]
    assert reason(shown) == "Correct the settings that are marked."
    assert not is_enabled(shown)


# --- the recipe -------------------------------------------------------------------------------------------------------


def _snippet(shown: str, name: str) -> str:
    found = re.search(rf'<pre[^>]*id="{name}"[^>]*>(.*?)</pre>', shown, re.DOTALL)
    assert found is not None
    return found.group(1).replace("&quot;", '"').replace("&#x27;", "'").replace("&lt;", "<").replace("&amp;", "&")


def test_the_choice_is_written_down_for_the_command_line_and_the_api(pages: Client, choice: dict[str, str]) -> None:
    shown = post(pages, choice, **{"config.max_steps": "9", "name": "it's mine", "tags": "a, b"})
    assert yaml.safe_load(_snippet(shown, "launch-yaml")) == {
        "method": "sft",
        "model": {"path": "./small"},
        "dataset": {"path": "./talks-v1.jsonl", "format": "conversation"},
        "config": {"max_steps": 9},
    }
    call = _snippet(shown, "launch-curl")
    assert call.startswith("curl http://testserver/api/v1/runs")
    body = call[call.index("{") : call.rindex("}") + 1].replace("'\"'\"'", "'")
    assert yaml.safe_load(body) == {
        **choice,
        "config": {"max_steps": 9},
        "name": "it's mine",
        "tags": ["a", "b"],
    }


# --- the preflight ----------------------------------------------------------------------------------------------------


def check(client: Client, choice: dict[str, str], tries: int = 0) -> str:
    """What the page is answered when it asks again, as it does by itself."""
    asked = Preflight.objects.values_list("pk", flat=True).first() or ""
    return text(client.post("/runs/new/check", {**choice, "tries": tries, "preflight": asked}, headers=HTMX))


def answer(**changes: Any) -> None:
    preflight_finish(preflight_id=str(Preflight.objects.get().pk), report={**REPORT, **changes})


def test_the_page_asks_until_a_worker_has_answered(pages: Client, choice: dict[str, str]) -> None:
    shown = post(pages, choice)
    assert 'hx-trigger="load' in shown
    assert "hx-preserve" in shown  # an earlier report stays in view
    assert "&quot;tries&quot;: 1" in check(pages, choice).replace('"', "&quot;")
    assert Preflight.objects.count() == 1
    answer()
    shown = check(pages, choice)
    assert 'hx-trigger="load' not in shown
    assert 'id="launch-go" ' in shown.replace("aria-label", " aria-label")
    for expected in ("Fits", "1 min 15 s", "3 GB", "4 GB free", "7 of 8", "Cut short", "median 18", "yes"):
        assert expected in shown
    # The answer is at hand for whoever makes the same choice again.
    assert "median 18" in post(pages, choice)


def test_tokens_that_are_trained_on_and_rows_that_are_cut_are_marked(pages: Client, choice: dict[str, str]) -> None:
    post(pages, choice)
    answer()
    shown = check(pages, choice)
    assert '<span class="token trained">yes</span>' in shown
    assert '<span class="token">&lt;user&gt;</span>' in shown
    assert re.findall(r'<i class="(\w*)" style="height:([\d.]+)%">', shown) == [("", "100.0"), ("cut", "33.3")]


@pytest.mark.parametrize(
    ("changes", "verdict", "enabled"),
    [
        ({}, "Fits", True),
        ({"fit": "tight"}, "Tight", True),
        ({"fit": "over"}, "Will not fit", True),
        ({"blocking": [{"code": "x", "message": "No row.", "remedy": "Add rows."}]}, "Will not run", False),
    ],
)
def test_the_verdict_decides_about_the_button(
    pages: Client, choice: dict[str, str], changes: dict[str, Any], verdict: str, enabled: bool
) -> None:
    post(pages, choice)
    answer(**changes)
    shown = check(pages, choice)
    assert f"</svg>{verdict}<" in shown
    assert is_enabled(shown) == enabled
    assert enabled or reason(shown) == "No row."


def show_row(client: Client, choice: dict[str, str], row: str, **more: str) -> str:
    return text(client.post("/runs/new/row", {**choice, "rows": "8", "row": row, **more}, headers=HTMX))


def test_any_row_can_be_seen_with_what_is_cut(pages: Client, choice: dict[str, str]) -> None:
    shown = show_row(pages, choice, "3")
    assert 'aria-busy="true"' in shown
    assert "hx-preserve" in shown  # the row before stays in view
    asked = Preflight.objects.get()
    assert asked.request["row"] == 2
    tokens = [("<s>", {"special": True}), ("so", {"trained": True}), ("on", {"cut": True, "omitted": 9})]
    example = {"tokens": [{"text": said, "trained": False, **marks} for said, marks in tokens], "row": 2, "rows": 8}
    preflight_finish(preflight_id=str(asked.pk), report={**example, "rejected": [], "images": [], "left_out": True})
    shown = show_row(pages, choice, "3")
    assert "hx-trigger" not in shown.replace('hx-trigger="change consume"', "")
    assert 'value="3"' in shown
    for expected in (
        '<span class="token special">&lt;s&gt;</span><span class="token trained">so</span>',
        "… 9 tokens …",
        'cut here</span><span class="token cut">on</span>',
        "The run leaves this row out.",
    ):
        assert expected in shown


@pytest.mark.parametrize(("row", "asked"), [("0", 0), ("-4", 0), ("x", 0), ("", 0), ("99", 7), ("8", 7)])
def test_a_number_that_no_row_has_is_that_of_the_nearest(
    pages: Client, choice: dict[str, str], row: str, asked: int
) -> None:
    show_row(pages, choice, row)
    assert Preflight.objects.get().request["row"] == asked


def test_why_a_row_cannot_be_seen_is_said(pages: Client, choice: dict[str, str]) -> None:
    assert "Choose a method." in show_row(pages, {}, "1")
    assert "No worker has answered" in show_row(pages, choice, "1", tries="60")
    error = {"code": "x", "message": "No <row>.", "advice": "Ask.", "fields": {}}
    asked = str(Preflight.objects.get().pk)
    preflight_finish(preflight_id=asked, error=error)
    shown = show_row(pages, choice, "1", preflight=asked)
    assert "No &lt;row&gt;. Ask." in shown
    # The answer on one row is not taken for that on another.
    assert 'aria-busy="true"' in show_row(pages, choice, "2", preflight=asked)
    assert 'id="example-next"' in shown


def test_the_time_is_told_by_the_runs_that_have_finished(
    pages: Client, choice: dict[str, str], conversations: DatasetVersion, django_assert_max_num_queries: Any
) -> None:
    post(pages, choice)
    answer(device="cpu")
    assert "the formula" not in check(pages, choice)
    for _ in range(4):
        finished_run(conversations.dataset.team, estimated=60, took=120, dataset_version=conversations)
    with django_assert_max_num_queries(20):
        shown = check(pages, choice)
    assert "2 min 30 s" in shown
    assert "From 4 finished runs; the formula says 1 min 15 s." in shown


def test_what_the_figures_tell_of_rows_is_shown(pages: Client, choice: dict[str, str]) -> None:
    post(pages, choice)
    pairs = {"chosen_tokens": 30.2, "rejected_tokens": 12.0, "chosen_longer": 0.8}
    answer(near_duplicate_rows=3, near_leaked_rows=2, pairs=pairs, good_share=0.25)
    shown = check(pages, choice)
    for expected in ("Nearly repeated", "Nearly held out", "80 %, ", "30 tokens against 12", "<dd>25 %</dd>"):
        assert expected in shown


def test_a_report_on_nothing_is_shown(pages: Client, choice: dict[str, str]) -> None:
    post(pages, choice)
    nothing = {"mean": 0.0, "p50": 0, "p95": 0, "max": 0, "histogram": []}
    answer(tokens=nothing, first_example=None, blocking=[{"code": "x", "message": "No row.", "remedy": ""}])
    shown = check(pages, choice)
    assert "No row." in shown
    assert "histogram" not in shown


def test_a_pair_shows_both_answers(pages: Client, choice: dict[str, str], pairs: DatasetVersion) -> None:
    choice |= {"method": "dpo", "dataset": str(pairs.dataset_id)}
    post(pages, choice)
    answer(
        first_example={
            "tokens": [{"text": "good", "trained": True}],
            "rejected": [{"text": "bad", "trained": True}],
        }
    )
    shown = check(pages, choice)
    assert "Tokens a pair" in shown
    assert shown.index(">good<") < shown.index("rejected answer") < shown.index(">bad<")


def test_an_error_of_the_worker_is_shown(pages: Client, choice: dict[str, str]) -> None:
    post(pages, choice)
    error = {"code": "x", "message": "Out of <disk>.", "advice": "Free some.", "fields": {}}
    preflight_finish(preflight_id=str(Preflight.objects.get().pk), error=error)
    shown = check(pages, choice)
    assert "Out of &lt;disk&gt;. Free some." in shown
    assert is_enabled(shown)


def test_a_preflight_of_others_is_not_read(pages: Client, choice: dict[str, str], other_team: Team) -> None:
    theirs = Preflight.objects.create(team=other_team, fingerprint="x", request={}, report={"blocking": ["secret"]})
    shown = text(pages.post("/runs/new/check", {**choice, "preflight": theirs.pk}, headers=HTMX))
    assert "secret" not in shown


def test_it_stops_asking_when_nobody_answers(pages: Client, choice: dict[str, str]) -> None:
    shown = check(pages, choice, tries=60)
    assert "No worker has answered" in shown
    assert "hx-trigger" not in shown
    assert is_enabled(shown)


# --- launching --------------------------------------------------------------------------------------------------------


def test_launching_queues_the_run_and_opens_its_page(pages: Client, choice: dict[str, str], member: User) -> None:
    more = {"config.max_steps": "9", "name": "mine", "project": "Sums", "tags": "a, b,", "priority": "-2"}
    answer_ = launch(pages, choice, **more, request_id="visit-1")
    run = Run.objects.get()
    assert answer_.headers["Location"] == f"/runs/{run.pk}"
    assert (run.name, run.project.name, run.tags, run.priority) == ("mine", "Sums", ["a", "b"], -2)
    assert run.config["max_steps"] == 9
    assert run.created_by == member
    launch(pages, choice, **more, request_id="visit-1")
    assert Run.objects.count() == 1
    assert run.estimated_seconds is None


def test_a_run_keeps_what_its_preflight_said_of_its_time(pages: Client, choice: dict[str, str]) -> None:
    post(pages, choice)
    answer(device="cpu")
    launch(pages, choice)
    launch(pages, choice, **{"config.max_steps": "9"})
    other, run = Run.objects.order_by("-id")
    assert (run.estimated_seconds, run.estimated_on) == (75.0, "cpu")
    assert (other.estimated_seconds, other.estimated_on) == (None, "")
    assert "estimated" not in text(pages.get(f"/runs/{run.pk}"))
    begun = run.created_at
    Run.objects.filter(pk=run.pk).update(
        status="succeeded", started_at=begun, finished_at=begun + datetime.timedelta(seconds=90)
    )
    assert "1 min 30 s<span" in text(pages.get(f"/runs/{run.pk}"))
    assert "estimated 1 min 15 s" in text(pages.get(f"/runs/{run.pk}"))


def test_a_change_that_comes_after_the_click_launches_nothing(pages: Client, choice: dict[str, str]) -> None:
    answer_ = pages.post("/runs/new", choice | {"launch": ""}, headers={"HX-Request": "true"})
    assert answer_.status_code == 200
    assert 'id="launch-side"' in answer_.text
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("more", "field", "said"),
    [
        ({"priority": "11"}, "priority", "From -10 to 10".lower()),
        ({"priority": "much"}, "priority", "whole number from -10 to 10"),
        ({"name": "x" * 201}, "name", "at most 200 characters"),
        ({"tags": ",".join(f"t{number}" for number in range(21))}, "tags", "At most 20 tags"),
        ({"project": "x" * 101}, "project", "At most 100 characters"),
    ],
)
def test_what_cannot_be_launched_is_explained_beside_its_field(
    pages: Client, choice: dict[str, str], more: dict[str, str], field: str, said: str
) -> None:
    answer_ = launch(pages, choice, **more)
    assert answer_.status_code == 422
    shown = text(answer_)
    beside = shown[shown.index(f'id="{field}"') :][:900]
    assert said in beside.replace("Must be a", "must be a")
    assert 'class="errors"' in beside
    assert Run.objects.count() == 0


def test_an_incomplete_choice_is_not_launched(pages: Client) -> None:
    answer_ = launch(pages, {"method": "sft"})
    assert answer_.status_code == 422
    assert "Choose a model to start from." in text(answer_)


def test_a_clone_begins_as_its_original_and_names_it_as_parent(
    pages: Client, choice: dict[str, str], team: Team, conversations: DatasetVersion, model: BaseModel
) -> None:
    original = make_run(team, "first", dataset_version=conversations, model=model, config={"batch_size": 3}, tags=["t"])
    shown = text(pages.get(f"/runs/new?clone={original.pk}"))
    assert "Clone first" in shown
    assert 'name="config.batch_size" id="config.batch_size" value="3"' in shown
    assert is_enabled(shown)
    launch(pages, choice, clone=str(original.pk))
    assert Run.objects.exclude(pk=original.pk).get().parent == original


def test_a_run_of_others_cannot_be_cloned(pages: Client, choice: dict[str, str], other_team: Team) -> None:
    theirs = make_run(other_team, "theirs", config={"batch_size": 3})
    assert "theirs" not in text(pages.get(f"/runs/new?clone={theirs.pk}"))
    launch(pages, choice, clone=str(theirs.pk))
    assert Run.objects.exclude(pk=theirs.pk).get().parent is None


def test_a_viewer_cannot_launch(signed_in: Callable[[User], Client], viewer: User, choice: dict[str, str]) -> None:
    assert signed_in(viewer).get("/runs/new").status_code == 403
    assert launch(signed_in(viewer), choice).status_code == 403


def test_the_page_takes_few_queries_however_much_there_is_to_choose(
    pages: Client, team: Team, actor: Actor, choice: dict[str, str], django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        factories.make_version(actor, f"rows {number}")
        make_checkpoint(team, f"checkpoint {number}")
    with django_assert_max_num_queries(20):
        pages.get("/runs/new", choice)
