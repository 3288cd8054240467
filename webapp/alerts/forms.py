"""The form of an alert rule. Its rules are the services'; it only parses."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import QueryDict

from polm_core.errors import PolmError
from webapp.accounts.forms import StudioForm
from webapp.accounts.models import User
from webapp.alerts.models import AlertRule, Comparison, RuleKind, RunState
from webapp.metrics.health import RULES
from webapp.runs.models import Project

# Rules to begin with, as the form is filled in for them.
EXAMPLES: dict[str, dict[str, Any]] = {
    "health": {"name": "A run does not learn well", "kind": RuleKind.HEALTH},
    "failed": {"name": "A run failed", "kind": RuleKind.STATUS, "states": [RunState.FAILED, RunState.HELD]},
    "loss": {
        "name": "The loss is no number",
        "kind": RuleKind.METRIC,
        "metric": "loss",
        "comparison": Comparison.NOT_FINITE,
    },
}


class RuleForm(StudioForm):
    """What a rule looks for and whom it tells. A rule that is there keeps its project, and its webhook unless told."""

    project = forms.ChoiceField()
    name = forms.CharField(max_length=100)
    query = forms.CharField(
        label="Only runs that match",
        max_length=1_000,
        required=False,
        help_text="As in the search of the list of runs, for example method:dpo tag:baseline. Empty is all of the "
        "project.",
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocomplete": "off"}),
    )
    kind = forms.ChoiceField(
        label="Alert when", choices=RuleKind.choices, initial=RuleKind.HEALTH, widget=forms.RadioSelect
    )
    health_rules = forms.MultipleChoiceField(
        label="Only these health rules",
        choices=[(name, name.replace("_", " ").capitalize()) for name in RULES],
        required=False,
    )
    metric = forms.CharField(
        max_length=200,
        help_text="As the charts name it: loss, eval/loss, reward.",
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocomplete": "off"}),
    )
    comparison = forms.ChoiceField(label="Is", choices=Comparison.choices, initial=Comparison.ABOVE)
    threshold = forms.FloatField(label="Bound", widget=forms.NumberInput(attrs={"step": "any"}))
    points = forms.IntegerField(
        label="Points in a row",
        initial=1,
        help_text="So many logged points must pass the bound one after another; as many that do not clear the alert.",
    )
    states = forms.MultipleChoiceField(label="What happens", choices=RunState.choices, required=False)
    email_to = forms.MultipleChoiceField(label="Mail to", required=False)
    webhook_url = forms.CharField(
        label="Webhook",
        max_length=500,
        required=False,
        help_text="A public https:// address that alerts are posted to as JSON. Kept encrypted and never shown again.",
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocomplete": "off"}),
    )
    webhook_secret = forms.CharField(
        label="Secret of the webhook",
        max_length=200,
        required=False,
        help_text="Signs what is posted, so that the receiver can tell who it is from.",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    webhook_remove = forms.BooleanField(label="Take the webhook away", required=False)

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        projects: Sequence[Project] = (),
        people: Sequence[User] = (),
        rule: AlertRule | None = None,
        **kwargs: Any,
    ) -> None:
        if rule is not None:
            kwargs["initial"] = _values(rule)
        super().__init__(data, **kwargs)
        self.rule, self.people = rule, people
        self.fields["project"].choices = [(str(one.pk), one.name) for one in projects]  # type: ignore[attr-defined]
        self.fields["email_to"].choices = [(str(one.pk), str(one)) for one in people]  # type: ignore[attr-defined]
        if rule is not None:
            del self.fields["project"]
        if rule is None or rule.webhook is None:
            del self.fields["webhook_remove"]
        if data is not None:
            self._ask_of(data.get("kind", ""), data.get("comparison", ""))

    def _ask_of(self, kind: str, comparison: str) -> None:
        """What the kind of rule that was chosen does not ask, or the comparison, may be empty."""
        if kind != RuleKind.METRIC:
            for name in ("metric", "comparison", "threshold", "points"):
                self.fields[name].required = False
        elif comparison == Comparison.NOT_FINITE:
            self.fields["threshold"].required = False

    def clean(self) -> dict[str, Any]:
        """The service's arguments."""
        cleaned = super().clean() or {}
        if cleaned.get("points") is None and "points" not in self.errors:
            cleaned["points"] = 1
        removes = cleaned.pop("webhook_remove", False)
        if self.rule is not None:
            # Left empty they stay as they are.
            cleaned["webhook_url"] = "" if removes else cleaned.get("webhook_url") or None
            cleaned["webhook_secret"] = cleaned.get("webhook_secret") or None
        return cleaned

    def add_problems(self, error: PolmError) -> None:
        """In sentences: the services go on from the field's name."""
        error.fields = {name: [one[:1].upper() + one[1:] for one in said] for name, said in error.fields.items()}
        super().add_problems(error)

    @property
    def unmailable(self) -> list[User]:
        """Who cannot be chosen, having given no address."""
        return [person for person in self.people if not person.email]


def _values(rule: AlertRule) -> dict[str, Any]:
    names = ("name", "query", "kind", "health_rules", "metric", "comparison", "threshold", "points", "states")
    told = [str(user.pk) for user in rule.email_to.all()]
    return {name: getattr(rule, name) for name in names} | {"email_to": told}
