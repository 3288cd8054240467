"""The catalogue as a map, and a page for each method."""

import json
from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from polm_core import catalogue, cookbook, formats
from polm_core.docs import symbols
from polm_core.errors import ConfigError
from polm_core.method import PARADIGMS, Method, Paradigm, ParadigmSpec
from webapp.accounts.access import signed_in
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import NotFound
from webapp.pages.proofs import proof_of
from webapp.ui.forms import MethodForm


@dataclass(frozen=True)
class BranchEntry:
    """A branch of the survey's map with the methods that the catalogue has in it."""

    title: str
    summary: str
    methods: list[Method]


@dataclass(frozen=True)
class ParadigmEntry:
    slug: Paradigm
    spec: ParadigmSpec
    branches: list[BranchEntry]

    @property
    def methods(self) -> list[Method]:
        return [method for branch in self.branches for method in branch.methods]

    @property
    def unfilled(self) -> list[BranchEntry]:
        """The branches without a method."""
        return [branch for branch in self.branches if not branch.methods]


def paradigms() -> list[ParadigmEntry]:
    """The five paradigms with their branches and methods, in the survey's order."""
    return [ParadigmEntry(paradigm, spec, _branches(paradigm)) for paradigm, spec in PARADIGMS.items()]


def _branches(paradigm: Paradigm) -> list[BranchEntry]:
    return [
        BranchEntry(
            branch.title,
            branch.summary,
            [m for m in catalogue.METHODS if m.paradigm == paradigm and m.branch == branch.title],
        )
        for branch in catalogue.TAXONOMY
        if branch.paradigm == paradigm
    ]


@signed_in
@require_safe
def methods(request: StudioRequest) -> HttpResponse:
    """The five paradigms, their branches, and the methods in them."""
    context = {
        "paradigms": paradigms(),
        "recipes": cookbook.RECIPES,
        "may_launch": request.actor.holds(Role.MEMBER),
    }
    return render(request, "ui/methods.html", context)


@signed_in
@require_safe
def method(request: StudioRequest, slug: str) -> HttpResponse:
    """What its docs page says, all its settings, and what it was measured to do."""
    try:
        found = catalogue.get(slug)
    except ConfigError as error:
        raise NotFound(f"There is no method {slug!r}.", advice=error.message) from None
    form = MethodForm(found)
    specs = [formats.SPECS[format_] for format_ in found.formats]
    return render(
        request,
        "ui/method.html",
        {
            "method": found,
            "paradigm": found.family,
            "symbols": symbols(found.formula),
            "form": form,
            "data": [(spec, json.dumps(spec.example, indent=2, ensure_ascii=False)) for spec in specs],
            "proof": proof_of(slug),
            "relatives": [
                m for m in (*catalogue.METHODS, *catalogue.EVALUATIONS) if m.branch == found.branch and m is not found
            ],
        },
    )
