"""Making a sweep: what each run is made from as on the Launch page, what varies, and what is best."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from polm_core.errors import ConfigError, PolmError
from polm_core.method import Method
from polm_core.settings import SettingSpec
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import Conflict, Invalid
from webapp.pages.runs import recipe as written
from webapp.pages.runs.choices import naming
from webapp.pages.runs.inputs import storable, whole_number
from webapp.pages.runs.launch import LaunchForm, form_of_link, form_of_post
from webapp.pages.sweeps.varying import Row, rows_posted, rows_suggested, settings_to_vary, space_of
from webapp.runs import selectors
from webapp.runs.models import Best
from webapp.runs.waiting import seconds_expected
from webapp.sweeps.models import Strategy
from webapp.sweeps.services import MAX_NAME, sweep_create
from webapp.sweeps.space import FIELD, Space, space_checked, space_read

TRIALS = 20
# Metrics that are better when they are higher, by a word in their names.
_HIGHER = ("accurac", "reward", "margin", "win", "pass", "exact", "score", "tokens_per_second")


@dataclass
class SweepForm:
    """Everything on the page: what is chosen so far, and what is wrong with it; `sent` once it is to be started."""

    launch: LaunchForm
    rows: list[Row]
    sent: bool = False
    problem: str = ""
    fields: dict[str, list[str]] = field(default_factory=dict)

    @property
    def values(self) -> Any:
        return self.launch.values

    def value(self, name: str, default: str = "") -> str:
        return self.launch.value(name) or default

    @property
    def method(self) -> Method | None:
        return self.launch.method

    @cached_property
    def settings_to_vary(self) -> list[SettingSpec]:
        return settings_to_vary(self.method) if self.method else []

    @cached_property
    def metrics(self) -> list[str]:
        """What the method's charts show, on held-out rows first."""
        keys = [key for chart in self.method.charts for key in chart.keys] if self.method else []
        return sorted(dict.fromkeys(keys), key=lambda key: not key.startswith("eval/"))

    @property
    def metric(self) -> str:
        return self.value("metric") or next(iter(self.metrics), "")

    @property
    def direction(self) -> str:
        """As chosen; while another metric is being chosen, as its name has it."""
        is_kept = self.sent or self.value("metric") == self.value("metric_before")
        if self.value("direction") and is_kept:
            return self.value("direction")
        return Best.MAX if any(word in self.metric for word in _HIGHER) else Best.MIN

    @property
    def strategy(self) -> str:
        return self.value("strategy", Strategy.TPE)

    @property
    def strategies(self) -> list[tuple[str, str]]:
        return list(Strategy.choices)

    @property
    def directions(self) -> list[tuple[str, str]]:
        return list(Best.choices)

    @property
    def prunes(self) -> bool:
        return self.value("prune") == "on"

    @cached_property
    def space(self) -> dict[str, Any]:
        return space_of(self.rows, self.method) if self.method else {}

    @cached_property
    def checked(self) -> Space | None:
        """What varies, once it is right. What is wrong is noted with the rows."""
        settings = self.launch.settings
        if self.method is None or settings is None or settings.config is None or not self.space:
            return None
        if any(row.problems for row in self.rows):
            return None
        try:
            return space_checked(space_read(self.space), self.method, settings.config, whole=False)
        except Invalid as error:
            self._note(error.fields)
            return None

    @property
    def max_trials(self) -> int | None:
        return whole_number(self.value("max_trials", str(TRIALS)))

    @property
    def count(self) -> int | None:
        """How many trials there will be; None while that is not known."""
        if self.checked is None:
            return None
        return self.checked.combinations if self.strategy == Strategy.GRID else self.max_trials

    @cached_property
    def seconds(self) -> float | None:
        """What all of them take, as many at a time as asked for, told by the team's earlier runs."""
        settings = self.launch.settings
        parallel = whole_number(self.value("parallel", "1")) or 1
        if not self.count or self.method is None or settings is None or settings.config is None or parallel < 0:
            return None
        team = self.launch.actor.current_team.pk
        each = seconds_expected(team, self.method.slug, settings.config.get("max_steps"))
        return None if each is None else each * -(-self.count // parallel)

    @property
    def missing(self) -> str:
        """Why the sweep cannot be started yet; empty when it can."""
        if self.launch.missing:
            return self.launch.missing
        if self.checked is None:
            faulty = any(row.problems for row in self.rows)
            return "Correct what varies where it is marked." if faulty else "Choose a setting that varies."
        return ""

    def request(self) -> dict[str, Any]:
        """What the service is asked for. Numbers that cannot be read are noted beside their fields."""
        numbers = {}
        for name, default in (("max_trials", str(TRIALS)), ("parallel", "1")):
            numbers[name] = whole_number(self.value(name, default))
            if numbers[name] is None:
                self.fields[name] = ["must be a whole number"]
        is_grid = self.strategy == Strategy.GRID
        return {
            **self.launch.request(),
            "space": self.space,
            "metric": self.metric,
            "direction": self.direction,
            "strategy": self.strategy,
            "max_trials": None if is_grid else numbers["max_trials"] or 0,
            "parallel": numbers["parallel"] or 0,
            "prune": self.prunes,
        }

    def naming(self) -> dict[str, Any]:
        """What it is called and where its runs stand. Problems are noted beside their fields."""
        return naming(self.launch.value, self.fields, longest=MAX_NAME)

    def refuse(self, error: PolmError) -> None:
        """Show an error of the service: beside the fields it names, and above the form."""
        self.problem = f"{error.message} {error.advice}".strip()
        self.fields.update(error.fields)
        self.launch.refuse(error)
        self._note(error.fields)
        if self.launch.settings:
            own = {name: said for name, said in error.fields.items() if name.startswith("config.")}
            self.launch.settings.add_problems(own)

    def _note(self, problems: dict[str, list[str]]) -> None:
        for row in self.rows:
            row.problems += problems.get(f"{FIELD}.{row.path}", [])


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: StudioRequest) -> HttpResponse:
    """Show the page with what is chosen, also on the Launch page (a fragment while choosing), or start the sweep."""
    if request.method != "POST":
        form = _suggested(form_of_link(request.actor, storable(request.GET)))
        return render(request, "sweeps/new.html", _context(request, form))
    posted = storable(request.POST)
    launch = form_of_post(request.actor, posted)
    sent = "launch" in posted and not request.htmx
    form = SweepForm(launch, rows_posted(posted.dict()), sent) if "vary.0.path" in posted else _suggested(launch)
    if sent:
        return _start(request, form)
    return render(request, "sweeps/_form.html" if request.htmx else "sweeps/new.html", _context(request, form))


def _suggested(launch: LaunchForm) -> SweepForm:
    config = launch.settings.config or {} if launch.settings else {}
    return SweepForm(launch, rows_suggested(launch.method, config))


def _start(request: StudioRequest, form: SweepForm) -> HttpResponse:
    asked, placing = form.request(), form.naming()
    form.problem = form.missing or ("Correct the fields that are marked." if form.fields else "")
    if not form.problem:
        try:
            made = sweep_create(actor=request.actor, **asked, **placing, request_id=form.value("request_id")[:100])
        except (Invalid, ConfigError, Conflict) as error:
            form.refuse(error)
        else:
            return redirect("sweep", made.pk)
    return render(request, "sweeps/new.html", _context(request, form), status=422)


def _context(request: StudioRequest, form: SweepForm) -> dict[str, Any]:
    missing = form.missing
    body = {name: value for name, value in {**form.request(), **form.naming()}.items() if value}
    url = request.build_absolute_uri(reverse("api:sweep_create"))
    return {
        "form": form,
        "missing": missing,
        "api_call": written.api_call(url, body),
        "worker_labels": selectors.worker_labels(),
    }
