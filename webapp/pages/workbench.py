"""The reward workbench: rewards tried on answers that are there already, and pinned for runs."""

import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml
from django.contrib import messages
from django.db.models import Exists, OuterRef
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from polm_core.data.completions import ANSWERED
from polm_core.errors import PolmError
from webapp.accounts.access import Actor, requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets.models import DatasetVersion, VersionStatus
from webapp.errors import Conflict, Invalid
from webapp.pages.runs.inputs import storable, whole_number
from webapp.pages.runs.scorers import ScorerChoice, pinned_lists, scorer_choices
from webapp.pagination import page
from webapp.runs.models import Run, RunSample
from webapp.runs.reward_lists import rewarding_method
from webapp.runs.selectors import projects, runs_visible
from webapp.runs.services import project_for
from webapp.ui.forms import MethodForm, Setting
from webapp.workbench import selectors, services
from webapp.workbench.models import RewardTrial

SOURCES = 100
TRIALS = 20
ROWS = 20
REWARDS = "rewards"


@dataclass
class TrialForm:
    """What rewards are tried, and on what."""

    actor: Actor
    values: dict[str, Any]
    settings: MethodForm
    problem: str = ""
    fields: dict[str, list[str]] = field(default_factory=dict)

    @property
    def rewards(self) -> list[Setting]:
        """The settings of rewards alone, of those that a method with rewards has."""
        return [one for one in self.settings.settings.values() if one.path.startswith(f"{REWARDS}.")]

    @property
    def source(self) -> str:
        """The id of what is chosen to try them on."""
        return str(self.values.get("source", "")).partition(":")[2]

    @cached_property
    def datasets(self) -> list[DatasetVersion]:
        """The newest datasets with answers."""
        ready = DatasetVersion.objects.filter(
            dataset__team=self.actor.current_team, status=VersionStatus.READY, format__in=ANSWERED
        )
        newest = ready.select_related("dataset").defer("report").order_by("dataset", "-number").distinct("dataset")
        return sorted(newest, key=lambda version: version.dataset_id, reverse=True)[:SOURCES]

    @cached_property
    def runs(self) -> list[Run]:
        """The newest runs that have written answers."""
        sampled = Exists(RunSample.objects.filter(run=OuterRef("pk")))
        found = runs_visible(self.actor).filter(sampled, team=self.actor.current_team)
        return list(found[:SOURCES])

    @cached_property
    def scorers(self) -> list[ScorerChoice]:
        return scorer_choices(self.actor, self.settings.config or self.settings.changes, self.values)

    def request(self) -> dict[str, Any]:
        """What the service is asked for. Raises Invalid for a number that is none."""
        kind, _, pk = str(self.values.get("source", "")).partition(":")
        most = whole_number(str(self.values.get("most", services.DEFAULT_MOST)))
        if most is None:
            raise Invalid("That is no number.", fields={"most": ["must be a whole number"]})
        return {
            "rewards": self.settings.changes.get(REWARDS, {}),
            "dataset": pk if kind == "dataset" else None,
            "run": pk if kind == "run" else None,
            "most": most,
            **{one.field: str(self.values.get(one.field) or "") or None for one in self.scorers},
        }

    def refuse(self, error: PolmError) -> None:
        self.problem = f"{error.message} {error.advice}".strip()
        self.fields.update(error.fields)


@requires(Role.VIEWER)
@require_http_methods(["GET", "HEAD", "POST"])
def workbench(request: StudioRequest) -> HttpResponse:
    """The form and the last trials; a change of the form is answered with what it asks for then."""
    actor, posted = request.actor, request.method == "POST"
    form = _form(actor, storable(request.POST)) if posted else _empty(actor, storable(request.GET))
    if posted and not request.htmx:
        try:
            made = services.trial_create(actor=actor, **form.request())
        except (Invalid, Conflict) as error:
            form.refuse(error)
        else:
            return redirect("reward-trial", made.pk)
    team = actor.current_team
    trials, cursor = page(selectors.trials_visible(actor).filter(team=team), TRIALS, request.GET.get("cursor"))
    context = {
        "form": form,
        "trials": trials,
        "cursor": cursor,
        "lists": pinned_lists(actor)[:TRIALS],
        "method": rewarding_method(),
        "may_try": actor.holds(Role.MEMBER, team.pk),
    }
    return render(request, "workbench/workbench.html", context, status=422 if form.problem else 200)


@requires(Role.VIEWER)
@require_GET
def trial(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """What came out; while it is at work, how far it is."""
    found = selectors.trial_get(request.actor, pk)
    if request.htmx and "order" not in request.GET:
        if found.is_open:
            return render(request, "workbench/_state.html", {"trial": found})
        return HttpResponse(headers={"HX-Refresh": "true"})
    context = {"trial": found, **_rows(request, found), **_report(found), **_pinning(request.actor, found)}
    return render(request, "workbench/_rows.html" if request.htmx else "workbench/trial.html", context)


@requires(Role.MEMBER)
@require_POST
def trial_stop(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.trial_get(request.actor, pk, Role.MEMBER)
    services.trial_stop(actor=request.actor, trial=found)
    return redirect("reward-trial", pk)


@requires(Role.MEMBER)
@require_POST
def trial_pin(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Keep the rewards of a trial as the next version of a name."""
    found, posted = selectors.trial_get(request.actor, pk, Role.MEMBER), storable(request.POST)
    try:
        project = project_for(actor=request.actor, team=found.team, ref=posted.get("project"))
        pinned = services.trial_pin(actor=request.actor, trial=found, project=project, name=posted.get("name", ""))
    except (Invalid, Conflict) as error:
        problems = [f"{name} {problem}".capitalize() for name, many in error.fields.items() for problem in many]
        context = {"trial": found, **_rows(request, found), **_report(found), **_pinning(request.actor, found)}
        context |= {"problems": problems or [error.message], "posted": posted}
        return render(request, "workbench/trial.html", context, status=422)
    messages.success(request, f"{pinned} is pinned: it can be chosen at launch.")
    return redirect("reward-trial", pk)


def _form(actor: Actor, posted: QueryDict) -> TrialForm:
    return TrialForm(actor, posted.dict(), MethodForm(rewarding_method(), posted=posted))


def _empty(actor: Actor, asked: QueryDict) -> TrialForm:
    """The form as a link asks for it: `?dataset=` or `?run=` names what to try on, `?like=` a trial to begin with."""
    values = asked.dict()
    for kind in ("dataset", "run"):
        if asked.get(kind):
            values["source"] = f"{kind}:{asked[kind]}"
    rewards = None
    if asked.get("like"):
        before = selectors.trial_get(actor, asked["like"])
        rewards, values = {REWARDS: before.rewards}, _choices_of(before) | values
    return TrialForm(actor, values, MethodForm(rewarding_method(), values=rewards))


def _choices_of(trial: RewardTrial) -> dict[str, Any]:
    version = trial.dataset_version
    models = {"reward_model": trial.reward_model, "judge_model": trial.judge_model}
    return {
        "source": f"dataset:{version.dataset_id}" if version else f"run:{trial.run_id}",
        "most": trial.most,
        **{name: str(model.checkpoint_id or model.pk) for name, model in models.items() if model},
    }


def _rows(request: StudioRequest, trial: RewardTrial) -> dict[str, Any]:
    order = request.GET.get("order", "disagreement")
    offset = whole_number(request.GET.get("offset", "")) or 0
    rows, following = selectors.trial_rows(
        trial,
        order=order if order in selectors.ORDERS else "disagreement",
        offset=max(0, min(offset, services.MAX_MOST)),
        limit=ROWS,
    )
    return {
        "rows": rows,
        "order": order,
        "orders": _ORDERS,
        "offset": offset,
        "before": max(0, offset - ROWS) if offset > 0 else None,
        "following": following,
    }


_ORDERS = {
    "disagreement": "the most disagreement",
    "lowest": "the lowest reward",
    "highest": "the highest reward",
    "place": "the order of the data",
}


def _report(trial: RewardTrial) -> dict[str, Any]:
    """The figures of a trial, what is odd about them, and the settings that were tried."""
    method = rewarding_method()
    weights = {name: trial.rewards[name] for name in trial.names}
    tried = weights | MethodForm(method, values={REWARDS: trial.rewards}).changes.get(REWARDS, {})
    context: dict[str, Any] = {"settings": yaml.safe_dump({REWARDS: tried}, sort_keys=False, allow_unicode=True)}
    if trial.report is None:
        return context
    stats, total = trial.report["rewards"], trial.report["total"]
    answers = trial.report["answers"]
    figures = [{**one, "unjudged": 1 - one["judged"] / answers} for one in (*stats, total)]
    names = [one["name"] for one in stats]
    return context | {
        "answers": answers,
        "figures": figures,
        "histograms": [
            {key: one[key] for key in ("name", "low", "high", "counts")} for one in figures if one["judged"]
        ],
        "correlations": list(zip(names, trial.report["correlations"], strict=True)) if len(names) > 1 else [],
        "names": names,
        "odd": [problem for one in figures[:-1] for problem in _odd(one, answers)],
    }


def _odd(one: dict[str, Any], answers: int) -> list[str]:
    """What one should know about a reward before a run learns from it."""
    name, found = one["name"], []
    if one["problem"]:
        found.append(f"{name}: {one['problem']}")
    if one["judged"] == 0:
        found.append(f"{name} judged no answer, so a run would learn nothing from it.")
    elif one["low"] == one["high"]:
        found.append(
            f"{name} gives every answer {one['low']:g}: it tells none apart, so a run would learn nothing from it."
        )
    elif one["judged"] < answers:
        found.append(
            f"{name} did not judge {answers - one['judged']:,} of {answers:,} answers; these count without it."
        )
    return found


def _pinning(actor: Actor, trial: RewardTrial) -> dict[str, Any]:
    return {"may_pin": actor.holds(Role.MEMBER, trial.team_id), "projects": projects(actor)[:SOURCES]}
