"""What hangs on a run's page: samples, the log, its settings as a file, checkpoints."""

import uuid
from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pages.runs import rollouts
from webapp.pages.runs.figures import headline_charts, headlines, method_of
from webapp.runs import selectors
from webapp.runs.config_files import config_yaml
from webapp.runs.models import Run, RunLog, RunSample
from webapp.ui.differences import Piece, new_words

SAMPLES = 30
LOG_LINES = 1_000
CHECKPOINTS = 200


@dataclass(frozen=True)
class Answer:
    """What the model said to a prompt at one step, and what it had said to it before."""

    sample: RunSample
    before: RunSample | None

    @property
    def was(self) -> str:
        return self.before.completion.strip() if self.before else ""

    @property
    def pieces(self) -> list[Piece]:
        return new_words(self.was, self.sample.completion.strip())

    @property
    def figures(self) -> list[tuple[str, float]]:
        """Rewards and the like, that a method logs beside its rollouts."""
        return [(name, value) for name, value in self.sample.data.items() if isinstance(value, float)]


@requires(Role.VIEWER)
@require_safe
def samples(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Fragment: the answers of one step beside those of the first, or those to one prompt (`like`) at every step.

    With `show=rollouts`, or where there are no others, the answers that the model learned from in one step.
    """
    found = selectors.run_get(request.actor, pk)
    method = method_of(found.method)
    more = {
        "may_add": request.actor.holds(Role.MEMBER, found.team_id),
        "learns": method is None or method.makes_checkpoints,
    }
    like = request.GET.get("like", "")
    if (request.GET.get("show") or _shown_first(found)) == "rollouts" and not like:
        context = rollouts.at_step(found, request.GET.get("step", ""), request.GET.get("sort", ""))
        return render(request, "runs/_rollouts.html", context | more)
    if like.isdigit():
        return render(request, "runs/_samples_of_prompt.html", _across_steps(found, int(like)) | more)
    return render(request, "runs/_samples.html", _at_step(found, request.GET.get("step", "")) | more)


def _shown_first(run: Run) -> str:
    held_out = selectors.sample_steps(run) or not selectors.has_rollouts(run)
    return "held-out" if held_out else "rollouts"


def _at_step(run: Run, asked: str) -> dict[str, object]:
    steps = selectors.sample_steps(run)
    first, newest = (steps[0], steps[-1]) if steps else (None, None)
    step = int(asked) if asked.isdigit() and int(asked) in steps else newest
    before = {one.prompt: one for one in selectors.run_samples(run, step=first)[:SAMPLES]} if step != first else {}
    shown = selectors.run_samples(run, step=step)[:SAMPLES] if step is not None else []
    return {
        "run": run,
        "steps": steps,
        "step": step,
        "first_step": first,
        "follows": step == newest,
        "has_rollouts": selectors.has_rollouts(run),
        "answers": [Answer(one, before.get(one.prompt)) for one in shown],
    }


def _across_steps(run: Run, sample_id: int) -> dict[str, object]:
    one = selectors.run_samples(run).filter(pk=sample_id).first()
    said = list(selectors.run_samples(run).filter(prompt=one.prompt).order_by("step", "id")[:SAMPLES]) if one else []
    pairs = zip(said, [None, *said], strict=False)
    return {"run": run, "sample": one, "answers": [Answer(now, before) for now, before in pairs][::-1]}


@requires(Role.VIEWER)
@require_safe
def log(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Fragment: the end of the log, or those of its lines that hold a word (`q`)."""
    found = selectors.run_get(request.actor, pk)
    text, end = selectors.run_log(found, tail=LOG_LINES)
    word = request.GET.get("q", "").strip()
    if word:
        text = "".join(line for line in text.splitlines(keepends=True) if word.lower() in line.lower())
    context = {"run": found, "text": text, "end": end, "word": word, "most": LOG_LINES}
    return render(request, "runs/_log.html", context)


@requires(Role.VIEWER)
@require_safe
def log_file(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The whole log as a file; what is kept of it is bounded."""
    found = selectors.run_get(request.actor, pk)
    pieces = RunLog.objects.filter(run=found).order_by("offset").values_list("text", flat=True)
    headers = {"Content-Disposition": f'attachment; filename="run-{found.pk}.txt"'}
    return HttpResponse("".join(pieces), content_type="text/plain; charset=utf-8", headers=headers)


@requires(Role.VIEWER)
@require_safe
def config_file(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The settings as `python -m polm_core run` takes them."""
    found = selectors.run_get(request.actor, pk)
    headers = {"Content-Disposition": f'attachment; filename="run-{found.pk}.yaml"'}
    return HttpResponse(config_yaml(found), content_type="application/yaml", headers=headers)


@requires(Role.VIEWER)
@require_safe
def checkpoints(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Fragment: the stored checkpoints, newest first."""
    found = selectors.run_get(request.actor, pk)
    method = method_of(found.method)
    links = found.run_checkpoints.select_related("checkpoint").order_by("-step")[:CHECKPOINTS]
    context = {
        "run": found,
        "charts": headline_charts(method),
        "checkpoints": [(link.checkpoint, headlines(method, link.checkpoint.metrics)) for link in links],
        "removed": found.removed_checkpoints.order_by("-step")[:CHECKPOINTS],
        "may_use": request.actor.holds(Role.MEMBER, found.team_id),
        "may_manage": request.actor.holds(Role.ADMIN, found.team_id),
    }
    return render(request, "runs/_checkpoints.html", context)
