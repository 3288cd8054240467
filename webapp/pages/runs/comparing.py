"""Two answers to one prompt side by side: of two steps, or two of one step."""

import uuid
from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import NotFound
from webapp.runs import selectors
from webapp.runs.models import Run, RunSample
from webapp.ui.differences import Piece, both_sides, is_compared

# To choose from; of more the first and the last are offered.
OFFERED = 400


@dataclass(frozen=True)
class Side:
    """An answer with what the other one does not have; `name` is that of its field in the address."""

    name: str
    title: str
    sample: RunSample
    pieces: list[Piece]

    @property
    def is_old(self) -> bool:
        return self.name == "a"


@requires(Role.VIEWER)
@require_safe
def compare(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Fragment: the answers `a` and `b`; with `of` alone, that one beside the first to the same prompt.

    Without any, the newest answer is taken.
    """
    run = selectors.run_get(request.actor, pk)
    asked = _sample(run, request.GET.get("of", "") or request.GET.get("b", ""))
    offered = _offered(asked)
    first = next((one for one in offered if str(one.pk) == request.GET.get("a")), offered[0])
    if first == asked and "b" not in request.GET:
        asked = offered[-1]
    old, new = both_sides(first.completion.strip(), asked.completion.strip())
    context = {
        "run": run,
        "sample": asked,
        "offered": offered,
        "sides": [Side("a", "From", first, old), Side("b", "To", asked, new)],
        "compared": is_compared(first.completion, asked.completion),
        "equal": first.completion.strip() == asked.completion.strip(),
    }
    return render(request, "runs/_samples_compare.html", context)


def _sample(run: Run, pk: str) -> RunSample:
    if not pk:
        found = run.samples.order_by("-step", "-id").first()
    else:
        found = run.samples.filter(pk=int(pk)).first() if pk.isdecimal() and len(pk) < 19 else None
    if found is None:
        raise NotFound("There is no such answer.")
    return found


def _offered(asked: RunSample) -> list[RunSample]:
    """The answers to the same prompt, oldest first, the one asked for among them."""
    alike = selectors.samples_like(asked)
    found = {one.pk: one for one in (*alike[: OFFERED // 2], *alike.reverse()[: OFFERED // 2], asked)}
    return sorted(found.values(), key=lambda one: (one.step, one.pk))
