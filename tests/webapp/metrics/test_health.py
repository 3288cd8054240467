"""Each rule fires on what it is about, with its figures, and keeps quiet on what only looks like it."""

import datetime
import math
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from polm_core import catalogue
from tests.support.api import ApiClient
from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.metrics.health import RULES, WATCHED, advice_for
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Run, Status, Worker

NAN = math.nan
Series = dict[str, Sequence[float]]


def log(run: Run, series: Series) -> None:
    """Log each metric's values at steps 1, 2, ..."""
    for key, values in series.items():
        lines = [MetricLine(step, 1_790_000_000.0 + step, {key: value}) for step, value in enumerate(values, 1)]
        MetricWriter(run.pk).append(lines)


def line(start: float, end: float, count: int = 40) -> list[float]:
    """Values on a straight line."""
    return [start + (end - start) * place / (count - 1) for place in range(count)]


LONGER = line(50, 200)
UP, DOWN, FLAT = line(0, 1), line(1, 0), [0.5, 0.6] * 20

# Rule, method, what was logged, what the title and the evidence must name.
FAULTS: list[tuple[str, str, Series, str, str]] = [
    ("loss_not_finite", "sft", {"loss": [2.0, 1.9, NAN, NAN]}, "no longer a number", "loss: 2 of 4 points"),
    ("loss_not_finite", "sft", {"loss": [NAN] * 4}, "is not a number", "loss: 4 of 4 points"),
    ("loss_not_finite", "sft", {"loss": [2.0, math.inf]}, "no longer a number", "loss: 1 of 2 points"),
    ("loss_not_finite", "sft", {"grad_norm": [1.0, NAN]}, "no longer a number", "grad_norm: 1 of 2 points"),
    ("loss_not_finite", "dpo", {"eval/loss": [1.0, NAN]}, "no longer a number", "eval/loss: 1 of 2 points"),
    ("nothing_trained", "sft", {"loss": [0.0] * 5}, "No token is trained on", "0 at all 5 points"),
    ("loss_zero", "sft", {"loss": [2.5, 1.0, 0.0, 0.0]}, "exactly 0", "up to 2.5 and is 0 at step 4"),
    ("loss_rises", "sft", {"loss": line(3, 1, 30) + line(1, 2, 30)}, "risen from its best", "is 1."),
    ("held_out_worse", "sft", {"eval/loss": [2.0, 1.5, 2.1]}, "worse than at the start", "was 2 and is 2.1"),
    ("held_out_worse", "dpo", {"eval/loss": [2.0, 1.0, 1.3]}, "past its best", "was 1 and is 1.3"),
    (
        "held_out_reward_worse",
        "rloo",
        {"reward": UP, "eval/reward": [0.5, 0.6, 0.2]},
        "reward is worse",
        "0.5 and is 0.2",
    ),
    ("farther_from_teacher", "distill", {"eval/teacher_kl": [0.5, 0.4, 0.7]}, "away from", "was 0.5 and is 0.7"),
    ("farther_from_teacher", "gold", {"eval/teacher_uld": [0.5, 0.4, 0.7]}, "away from", "was 0.5 and is 0.7"),
    (
        "costly",
        "quantize",
        {"eval/perplexity": [10.0, 11.5], "size/ratio": [1.0, 0.4]},
        "much worse",
        "was 10 and is 11.5",
    ),
    ("edits_spill", "knowledge-edit", {"neighbourhood": [1.0, 0.8]}, "was to stay", "80% of the neighbours"),
    ("held_out_worse", "distill", {"eval/loss": [2.0, 1.5, 2.1], "completions/mean_length": [9.0]}, "worse", "is 2.1"),
    ("gradient_spikes", "sft", {"grad_norm": [1.0] * 30 + [50.0] + [1.0] * 9}, "spikes", "reaches 50 and is usually 1"),
    (
        "chosen_unlearned",
        "dpo",
        {"logps/chosen": line(-100, -180), "rewards/margins": line(0, 3)},
        "unlikely too",
        "from -107.2 to -172.8 while the margin rose from 0.26",
    ),
    ("far_from_reference", "rloo", {"kl": line(0, 4)}, "drifted far", "should stay below 1"),
    ("far_from_reference", "kto", {"kl": line(0, 40)}, "drifted far", "should stay below 10"),
    ("far_from_reference", "grpo", {"kl": line(0, 4)}, "drifted far", "should stay below 1"),
    ("no_signal", "rloo", {"reward_std": [*line(0.4, 0, 20), *[0.0] * 20]}, "no signal", "from 0.32"),
    ("no_signal", "dapo", {"frac_reward_zero_std": [0.95] * 40, "reward": UP}, "no signal", "at 95% of the prompts"),
    ("clipped", "gspo", {"completions/clipped_ratio": line(0, 0.9)}, "cut off", "82% of them"),
    ("entropy_collapse", "sapo", {"entropy": line(2, 0.01), "reward": UP}, "has collapsed", "to 0.18"),
    (
        "no_signal",
        "rloo",
        {"reward_std": line(0.4, 0.3), "frac_reward_zero_std": [1.0] * 40},
        "no signal",
        "100% of the",
    ),
    ("always_zero", "rloo", {"reward": [0.0] * 20, "reward_std": [0.0] * 20}, "Every reward is 0", "20 steps"),
    ("not_judged", "rloo", {"reward/judge/not_judged": line(0, 0.5)}, "no score from judge", "46% of them"),
    ("no_signal", "rloo", {"pairs/tied": [0.95] * 40}, "no signal", "at 95% of the prompts"),
    (
        "length_hacking",
        "rloo",
        {"completions/mean_length": LONGER, "reward": FLAT},
        "longer and not better",
        "reward from",
    ),
    (
        "length_hacking",
        "rloo",
        {"completions/mean_length": LONGER, "reward": UP, "reward/math": FLAT, "reward/exact": DOWN},
        "longer and not better",
        "reward/math from 0.55 to 0.55",
    ),
    ("clipped", "rloo", {"completions/clipped_ratio": line(0, 0.9)}, "cut off", "82% of them"),
    ("entropy_collapse", "rloo", {"entropy": line(2, 0.01), "reward": UP}, "has collapsed", "to 0.18"),
    ("few_solved", "rejection-sampling", {"made/solved": [0.2, 0.04]}, "Few prompts", "4% of them at step 2"),
    ("refined_in_vain", "self-refine", {"made/improved": [0.02]}, "hardly any answer", "at 2% of the prompts"),
]

# Rule, method, what was logged, why that is no fault.
NO_FAULTS: list[tuple[str, str, Series, str]] = [
    ("loss_not_finite", "sft", {"loss": line(3, 1), "eval/loss": [3.0, 2.0, 1.0]}, "every value is a number"),
    ("nothing_trained", "sft", {"loss": [0.0, 0.0]}, "two points are too few"),
    ("nothing_trained", "rloo", {"loss": [0.0] * 30, "reward": UP}, "the loss of rewards is 0 on average"),
    ("loss_zero", "sft", {"loss": [2.0, 0.0, 1.0, 0.5]}, "it was 0 once"),
    ("loss_rises", "sft", {"loss": [1.0, 0.5, 1.5]}, "three points make no trend"),
    ("loss_rises", "sft", {"loss": [*line(3, 0.001, 30), *line(0.001, 0.002, 30)]}, "a loss near 0 doubles by chance"),
    ("loss_rises", "sft", {"loss": [2.0, 1.4, 1.9, 1.6] * 15}, "noise"),
    ("loss_rises", "rloo", {"loss": [*line(3, 1, 30), *line(1, 2, 30)], "reward": UP}, "the loss of rewards swings"),
    (
        "loss_rises",
        "minillm",
        {"loss": [*line(3, 1, 30), *line(1, 2, 30)], "completions/mean_length": line(9, 9)},
        "the loss on answers of its own swings",
    ),
    ("edits_spill", "knowledge-edit", {"neighbourhood": [1.0, 0.8, 0.95]}, "nearly all stay in the end"),
    ("farther_from_teacher", "distill", {"eval/teacher_kl": [0.5, 0.7]}, "two evaluations make no trend"),
    ("farther_from_teacher", "distill", {"eval/teacher_kl": [0.5, 0.7, 0.4]}, "nearer in the end"),
    ("costly", "prune", {"eval/perplexity": [10.0, 10.9], "size/ratio": [1.0, 0.4]}, "as little is to be expected"),
    ("costly", "sft", {"eval/perplexity": [10.0, 15.0]}, "nothing was made smaller"),
    ("held_out_worse", "prune", {"eval/loss": [2.0, 3.0, 2.2], "size/ratio": [1.0, 1.0]}, "what is cut off costs"),
    ("held_out_worse", "sft", {"eval/loss": [2.0, 2.5]}, "two evaluations make no trend"),
    ("held_out_worse", "rloo", {"eval/loss": [0.0, 0.01, 0.02], "reward": UP}, "the loss of rewards says nothing"),
    ("held_out_reward_worse", "rloo", {"reward": UP, "eval/reward": [0.5, 0.9, 0.48]}, "a little below the start"),
    ("held_out_reward_worse", "rloo", {"reward": UP, "eval/reward": [0.5, 0.1]}, "two evaluations make no trend"),
    ("gradient_spikes", "sft", {"grad_norm": [90.0, 60.0, 30.0, *[1.0] * 37]}, "large at the start"),
    ("chosen_unlearned", "dpo", {"logps/chosen": line(-100, -105), "rewards/margins": line(0, 3)}, "a small fall"),
    ("chosen_unlearned", "dpo", {"logps/chosen": line(-100, -180), "rewards/margins": line(3, 0)}, "no margin grows"),
    ("far_from_reference", "rloo", {"kl": line(0, 0.5)}, "within its bound"),
    ("far_from_reference", "kto", {"kl": line(0, 8)}, "its divergence is that of whole answers"),
    ("far_from_reference", "gone", {"kl": line(0, 40)}, "a method that the catalogue no longer has"),
    ("no_signal", "rloo", {"reward_std": [0.0] * 5}, "too early to tell"),
    ("always_zero", "rloo", {"reward": [0.0] * 5}, "too few zeros"),
    ("not_judged", "rloo", {"reward/judge/not_judged": [0.1] * 20}, "some answers without a judgement"),
    ("no_signal", "rloo", {"reward_std": line(0.4, 0.1), "frac_reward_zero_std": [0.5] * 40}, "half the prompts teach"),
    ("length_hacking", "rloo", {"completions/mean_length": LONGER, "reward": UP}, "longer and better"),
    (
        "length_hacking",
        "rloo",
        {"completions/mean_length": LONGER, "reward": FLAT, "reward/math": UP, "reward/length": DOWN},
        "a part of the reward rises",
    ),
    ("length_hacking", "rloo", {"completions/mean_length": line(50, 60), "reward": FLAT}, "hardly longer"),
    ("clipped", "rloo", {"completions/clipped_ratio": line(0.9, 0.1)}, "fewer and fewer are cut"),
    ("entropy_collapse", "sft", {"entropy": line(2, 0.01)}, "entropy falls as imitation learns"),
    ("entropy_collapse", "rloo", {"entropy": line(2, 1), "reward": UP}, "it falls by half"),
    ("few_solved", "rejection-sampling", {"made/solved": [0.05, 0.3]}, "it has come to solve more"),
    ("refined_in_vain", "self-refine", {"made/improved": [0.2]}, "one in five is improved"),
    (
        "loss_rises",
        "rejection-sampling",
        {"loss": [*line(3, 1, 30), *line(3, 1.5, 30)], "made/solved": [0.4, 0.5]},
        "each round begins anew",
    ),
]

# What runs log that go well.
GOOD: dict[str, Series] = {
    "sft": {
        "loss": line(3, 1),
        "eval/loss": [2.9, 2.0, 1.5, 1.2],
        "grad_norm": line(2, 1),
        "entropy": line(2, 0.2),
    },
    "dpo": {
        "loss": line(0.69, 0.2),
        "eval/loss": [0.69, 0.5, 0.4],
        "grad_norm": line(2, 1),
        "logps/chosen": line(-100, -90),
        "rewards/margins": line(0, 2),
    },
    "rloo": {
        "loss": [0.1, -0.1] * 20,
        "eval/loss": [0.0, 0.02, 0.01],
        "grad_norm": line(2, 1),
        "reward": UP,
        "reward/math": UP,
        "eval/reward": [0.1, 0.5, 0.9],
        "reward_std": line(0.5, 0.2),
        "frac_reward_zero_std": line(0.2, 0.6),
        "entropy": line(2, 1),
        "completions/mean_length": line(50, 60),
        "completions/clipped_ratio": line(0.2, 0.1),
        "kl": line(0, 0.2),
    },
    "grpo": {
        "loss": [0.001, -0.02] * 20,
        "eval/loss": [0.0, 0.0001, 0.001],
        "grad_norm": line(2, 1),
        "reward": UP,
        "reward/math": UP,
        "eval/reward": [0.1, 0.5, 0.9],
        "reward_std": line(0.5, 0.2),
        "frac_reward_zero_std": line(0.2, 0.6),
        "clip_ratio/low_mean": line(0, 0.1),
        "clip_ratio/high_mean": line(0, 0.1),
        "entropy": line(2, 1),
        "completions/mean_length": line(50, 200),
        "completions/clipped_ratio": line(0.2, 0.1),
        "kl": line(0, 0.2),
    },
}


@pytest.mark.parametrize(
    ("rule", "method", "series", "title", "evidence"),
    FAULTS,
    ids=[f"{rule} {' '.join(series)}" for rule, _, series, _, _ in FAULTS],
)
def test_a_rule_fires_with_its_evidence_and_a_remedy(
    team: Team, rule: str, method: str, series: Series, title: str, evidence: str
) -> None:
    run = make_run(team, method=method)
    log(run, series)
    [advice] = advice_for(run)
    assert advice.rule == rule
    assert title in advice.title
    assert evidence in advice.evidence
    assert advice.remedy.endswith(".")


@pytest.mark.parametrize(("rule", "method", "series", "why"), NO_FAULTS, ids=[fault[3] for fault in NO_FAULTS])
def test_what_only_looks_like_a_fault_is_left_alone(
    team: Team, rule: str, method: str, series: Series, why: str
) -> None:
    run = make_run(team, method=method)
    log(run, series)
    assert advice_for(run) == []


@pytest.mark.parametrize("method", GOOD)
def test_a_run_that_goes_well_gets_no_advice(team: Team, method: str) -> None:
    run = make_run(team, method=method)
    log(run, GOOD[method])
    assert advice_for(run) == []


def test_a_run_that_has_logged_nothing_gets_no_advice(run: Run) -> None:
    assert advice_for(run) == []


def test_every_rule_about_curves_is_tried_both_ways() -> None:
    others = {"silent", "stalled", "disk_full"}
    assert {fault[0] for fault in FAULTS} == set(RULES) - others
    assert {fault[0] for fault in NO_FAULTS} == set(RULES) - others


def test_a_divergence_has_a_bound_in_every_method_that_shows_one() -> None:
    charts = [chart for method in catalogue.METHODS for chart in method.charts if "kl" in chart.keys]
    assert charts
    assert all(chart.bound for chart in charts)


# --- what the worker and its machine tell -----------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "fires"), [(-90, True), (-30, False), (5, False)])
def test_a_worker_that_is_silent_is_noticed(team: Team, seconds: int, fires: bool) -> None:
    until = timezone.now() + datetime.timedelta(seconds=seconds)
    run = make_run(team, status=Status.RUNNING, lease_until=until)
    assert [advice.rule for advice in advice_for(run)] == ["silent"] * fires
    if fires:
        assert "no sign of life for 105 s" in advice_for(run)[0].evidence


def test_a_run_that_ended_has_no_silent_worker(team: Team) -> None:
    run = make_run(team, status=Status.SUCCEEDED, lease_until=timezone.now() - datetime.timedelta(hours=1))
    assert advice_for(run) == []


@pytest.mark.parametrize(("status", "fires"), [(Status.RUNNING, True), (Status.PAUSED, False)])
def test_a_run_that_stalls_is_noticed(team: Team, status: Status, fires: bool) -> None:
    since = timezone.now() - datetime.timedelta(seconds=300)
    run = make_run(team, status=status, progress={"stalled_since": since.isoformat()})
    assert [advice.rule for advice in advice_for(run)] == ["stalled"] * fires


@pytest.mark.parametrize(
    ("free", "status", "fires"),
    [(5e9, Status.RUNNING, True), (50e9, Status.RUNNING, False), (5e9, Status.SUCCEEDED, False)],
)
def test_a_full_disk_is_noticed(team: Team, free: float, status: Status, fires: bool) -> None:
    system = {"disk_free": free, "disk_total": 100e9}
    worker = Worker.objects.create(name="w", host="h", heartbeat_at=timezone.now(), system=system)
    run = make_run(team, status=status, worker=worker)
    found = [(advice.rule, advice.evidence) for advice in advice_for(run)]
    assert found == [("disk_full", "5% of its 100 GB are free")] * fires


# --- what it costs, and where it is read ------------------------------------------------------------------------------


def test_all_rules_together_read_little_however_much_was_logged(run: Run, django_assert_num_queries: Any) -> None:
    log(run, {**dict.fromkeys(WATCHED, line(3, 1)), **{f"other/{n}": [1.0] for n in range(50)}})
    with django_assert_num_queries(1):  # and one for all points, past Django's own cursors
        advice_for(run)
    log(run, {"loss": [(2 + math.sin(step)) for step in range(41, 3000)]})
    with django_assert_num_queries(1):
        advice_for(run)


def test_the_api_gives_the_advice(api: ApiClient, run: Run) -> None:
    assert api.get(f"/runs/{run.pk}/advice").json() == {"items": [], "next_cursor": None}
    log(run, {"loss": [0.0] * 5})
    answer = api.get(f"/runs/{run.pk}/advice")
    assert answer.status_code == 200
    [advice] = answer.json()["items"]
    assert advice == {
        "rule": "nothing_trained",
        "title": "No token is trained on",
        "evidence": "the loss is 0 at all 5 points, so nothing was learned from the first step on",
        "remedy": "Look at the first row in the preflight: raise max_length, or train on all tokens.",
    }


def test_the_run_s_page_shows_the_advice_for_no_more_queries(pages: Client, run: Run) -> None:
    log(run, {"loss": [2.0, 1.5, 1.2]})
    with CaptureQueriesContext(connection) as healthy:
        assert "notice warn" not in pages.get(f"/runs/{run.pk}").content.decode()
    log(run, {"loss": [0.0] * 5, "eval/loss": [2.0, 1.5, 2.1]})
    with CaptureQueriesContext(connection) as advised:
        page = pages.get(f"/runs/{run.pk}").content.decode()
    assert len(advised) <= len(healthy)
    assert "No token is trained on" in page
    assert "it was 2 and is 2.1 now" in page
