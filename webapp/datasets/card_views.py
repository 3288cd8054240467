"""The page on which the card of a dataset is written, with a preview beside the text."""

import uuid
from functools import partial

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets import cards, selectors
from webapp.datasets.forms import CardForm
from webapp.datasets.models import Dataset, DatasetCard
from webapp.errors import Invalid
from webapp.ui.markdown import render_markdown


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def card(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The text of a card. `fill` adds what is known below it, unsaved. Saved by somebody else meanwhile, it comes back
    with both texts, and nothing is lost."""
    dataset = selectors.dataset_get(request.actor, pk, Role.MEMBER)
    if request.method != "POST":
        found = cards.card_of(dataset)
        form = CardForm(initial={"body": found.body, "base": found.number})
    elif "fill" in request.POST:
        known = cards.suggested_card(selectors.version_get(dataset))
        body = "\n\n".join(filter(None, [request.POST.get("body", "").strip(), known]))
        form = CardForm(initial={"body": body, "base": request.POST.get("base", "")})
    else:
        form = CardForm(request.POST)
        if form.attempt(partial(_save, request, dataset)):
            messages.success(request, "The card is saved.")
            return redirect(reverse("dataset", args=[pk]) + "#card")
    status = 409 if form.theirs else 422 if form.errors else 200
    return render(request, "datasets/card.html", {"dataset": dataset, "form": form}, status=status)


@requires(Role.VIEWER)
@require_POST
def card_preview(request: StudioRequest) -> HttpResponse:
    """A text as it will read, as a fragment."""
    try:
        return HttpResponse(render_markdown(cards.clean_card(request.POST.get("body", ""))))
    except Invalid as error:
        return render(request, "reports/_link_problem.html", {"error": error}, status=422)


def _save(request: StudioRequest, dataset: Dataset, *, base: int | None, body: str) -> DatasetCard:
    return cards.card_save(actor=request.actor, dataset=dataset, base=base or 0, body=body)
