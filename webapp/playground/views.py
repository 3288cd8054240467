"""The playground: one prompt, two models, side by side."""

import uuid
from functools import partial
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import NotFound
from webapp.playground import selectors, services
from webapp.playground.forms import PromptForm
from webapp.playground.models import Generation


@requires(Role.VIEWER)
@require_http_methods(["GET", "HEAD", "POST"])
def playground(request: StudioRequest) -> HttpResponse:
    """The form, and the answers of `?batch=`; as a fragment, the answers alone. `?model=` (twice) chooses models and
    `?index=` documents."""
    actor, team = request.actor, request.actor.current_team
    if request.method == "POST":
        choices = selectors.choices(actor, team, chosen=[request.POST.get(side, "") for side in ("left", "right")])
        form = PromptForm(request.POST, choices=choices)
        made = form.attempt(partial(services.generate_create, actor=actor, team=team))
        if made:
            return redirect(f"{reverse('playground')}?batch={made[0].batch}")
        answers: list[Generation] = []
    else:
        answers = _answers(request)
        chosen = [str(answer.model_id or answer.checkpoint_id) for answer in answers] or request.GET.getlist("model")
        choices = selectors.choices(actor, team, chosen=chosen)
        form = PromptForm(choices=choices, initial=_initial(answers, chosen, choices, request.GET.get("index", "")))
    template = "playground/playground.html"
    if request.htmx and request.method != "POST":
        template = "playground/_answers.html"
    context = {
        "form": form,
        "answers": answers,
        "open": any(answer.is_open for answer in answers),
        "history": selectors.history(actor, team),
        "may_ask": actor.holds(Role.MEMBER, team.pk),
        "has_indexes": bool(choices.indexes),
        "can_choose": bool(choices.models or choices.checkpoints),
    }
    return render(request, template, context, status=422 if form.errors else 200)


@requires(Role.MEMBER)
@require_POST
def generation_stop(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.generation_get(request.actor, pk)
    services.generation_stop(actor=request.actor, generation=found)
    messages.info(request, "The answer was stopped.")
    return redirect(f"{reverse('playground')}?batch={found.batch}")


def _answers(request: StudioRequest) -> list[Generation]:
    asked = request.GET.get("batch")
    if not asked:
        return []
    try:
        return selectors.batch_get(request.actor, uuid.UUID(asked))
    except ValueError:
        raise NotFound("There is no such prompt.") from None


def _initial(answers: list[Generation], chosen: list[str], choices: selectors.Choices, index: str) -> dict[str, Any]:
    """The form as it was asked; a model that was chosen alone is compared with the first base model."""
    if len(chosen) == 1 and choices.models and not answers:
        chosen = [str(choices.models[0].pk), *chosen]
    asked: dict[str, Any] = {"index": index}
    if answers:
        first = answers[0]
        asked = {
            "prompt": first.prompt,
            "system": first.system,
            "index": first.index_id,
            **first.settings,
            **first.find,
        }
    return {**asked, **dict(zip(("left", "right"), chosen, strict=False))}
