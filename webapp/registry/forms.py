"""The forms of the model and checkpoint pages. Their rules are the services'; a form only parses."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone

from polm_core.errors import PolmError
from webapp.accounts.forms import StudioForm
from webapp.registry.models import Checkpoint, Share, ShareKind
from webapp.registry.rules import MAX_NAME, MAX_PATH
from webapp.registry.shares import share_create

_PLAIN = {"autocomplete": "off", "spellcheck": "false"}


class ModelAddForm(StudioForm):
    """A hub model or a folder of the workers."""

    hub_id = forms.CharField(
        label="Hub id",
        required=False,
        max_length=200,
        help_text="As owner/name, for example HuggingFaceTB/SmolLM2-360M-Instruct. A worker downloads it once.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    revision = forms.CharField(
        required=False,
        max_length=100,
        help_text="A branch, tag or commit of the hub; empty for the newest.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    path = forms.CharField(
        label="Or a folder",
        required=False,
        max_length=MAX_PATH,
        help_text="On the workers, below one of POLM_MODEL_ROOTS.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    name = forms.CharField(
        required=False, max_length=MAX_NAME, help_text="What the team sees; empty for the hub id or the folder's name."
    )


class ModelNameForm(StudioForm):
    name = forms.CharField(max_length=MAX_NAME)


class RegisterForm(StudioForm):
    """What a registered checkpoint is called."""

    name = forms.CharField(required=False, max_length=MAX_NAME, help_text="Empty for the checkpoint's own name.")


class ShareForm(StudioForm):
    """Whom to let read a checkpoint, and until when."""

    kind = forms.ChoiceField(label="With", choices=[(kind, kind.label) for kind in reversed(ShareKind)])
    receiver = forms.CharField(
        label="Team or person",
        required=False,
        max_length=150,
        help_text="The team's name or the person's username; empty for a link.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    days = forms.TypedChoiceField(
        label="Open for",
        choices=[("1", "a day"), ("7", "7 days"), ("30", "30 days"), ("365", "a year"), ("", "until revoked")],
        coerce=int,
        empty_value=None,
        required=False,
        initial="7",
        help_text="A link always ends: after 7 days when it is not told otherwise.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        named, link = bool(cleaned.get("receiver")), cleaned.get("kind") == ShareKind.LINK
        if named and link:
            self.add_error("receiver", "Leave this empty for a link.")
        elif not named and not link:
            self.add_error("receiver", "Say which team or person.")
        return cleaned

    def add_problems(self, error: PolmError) -> None:
        for problems in error.fields.values():
            self.add_error("receiver", problems)
        if not error.fields:
            super().add_problems(error)

    def share(self, checkpoint: Checkpoint, **more: Any) -> Share | None:
        """Share the checkpoint as the form says; None when it is refused, and `errors` says why."""

        def create(kind: str, receiver: str, days: int | None) -> Share:
            expires_at = timezone.now() + timedelta(days=days) if days else None
            target: dict[str, Any] = {"link": True} if kind == ShareKind.LINK else {kind: receiver}
            return share_create(checkpoint=checkpoint, expires_at=expires_at, **target, **more)

        return self.attempt(create)
