"""The forms of reports and of links to them. Their rules are the services'; a form only parses."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from webapp.accounts.forms import SavedTextForm, StudioForm
from webapp.reports.rules import MAX_BODY, MAX_TITLE
from webapp.runs.services import DEFAULT_PROJECT

_TEXT = {"rows": 26, "spellcheck": "true", "class": "mono"}


class ReportForm(SavedTextForm):
    """A report."""

    title = forms.CharField(max_length=MAX_TITLE)
    body = forms.CharField(
        label="Text", required=False, strip=False, max_length=MAX_BODY, widget=forms.Textarea(attrs=_TEXT)
    )


class NewReportForm(ReportForm):
    """A new report and the project it belongs to."""

    project = forms.ChoiceField(required=False)
    field_order = ("title", "project", "body", "base")

    def __init__(self, *args: Any, projects: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(str(project.pk), project.name) for project in projects] or [("", DEFAULT_PROJECT)]
        self.fields["project"].choices = choices  # type: ignore[attr-defined]


class LinkForm(StudioForm):
    """How long a link stays open."""

    days = forms.TypedChoiceField(
        label="Open for",
        choices=[("1", "a day"), ("7", "7 days"), ("30", "30 days"), ("365", "a year")],
        coerce=int,
        initial="7",
    )

    @property
    def expires_at(self) -> datetime:
        return timezone.now() + timedelta(days=self.cleaned_data["days"])
