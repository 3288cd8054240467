"""The forms of the account and team pages. Their rules are the services'; a form only parses."""

from collections.abc import Callable
from typing import Any, TypeVar

from django import forms

from polm_core.errors import PolmError
from webapp.accounts.models import Role, User
from webapp.errors import Conflict, Invalid, SavedMeanwhile

T = TypeVar("T")

FOREVER = "forever"

PASSWORD_HELP = "At least 10 characters; nothing common and nothing like your username."  # noqa: S105 - words on the page


class StudioForm(forms.Form):
    """A form that also carries what a service refuses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Several forms share a page: without a name of the form in them their ids would collide.
        kwargs.setdefault("auto_id", f"{type(self).__name__.removesuffix('Form').lower()}-%s")
        super().__init__(*args, **kwargs)

    def attempt(self, deed: Callable[..., T]) -> T | None:
        """Call `deed` with the cleaned values; None when form or service refuses, and `errors` says why."""
        if not self.is_valid():
            return None
        try:
            return deed(**self.cleaned_data)
        except (Invalid, Conflict) as error:
            self.add_problems(error)
            return None

    def add_problems(self, error: PolmError) -> None:
        """Show each problem at its field, and what belongs to no field above the form."""
        for name, problems in error.fields.items():
            self.add_error(name if name in self.fields else None, problems)
        if not error.fields:
            self.add_error(None, f"{error.message} {error.advice}".strip())


class SavedTextForm(StudioForm):
    """A text that several may write. `base` is the version that it was opened at; `theirs` what somebody else has saved
    since, on which the form then builds."""

    base = forms.IntegerField(required=False, min_value=0, widget=forms.HiddenInput)
    theirs: Any = None

    def attempt(self, deed: Callable[..., T]) -> T | None:
        def noting(**values: Any) -> T:
            try:
                return deed(**values)
            except SavedMeanwhile as error:
                self.theirs = error.theirs
                self.data = {**dict(self.data.items()), "base": str(error.number)}
                raise

        return super().attempt(noting)


def _new_password(label: str = "Password") -> forms.CharField:
    return forms.CharField(
        label=label,
        strip=False,
        max_length=200,
        help_text=PASSWORD_HELP,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


def _full_name() -> forms.CharField:
    return forms.CharField(
        label="Your name",
        max_length=150,
        required=False,
        help_text="What others see. Without one they see your username.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )


class SignInForm(StudioForm):
    username = forms.CharField(max_length=150, widget=forms.TextInput(attrs={"autocomplete": "username"}))
    password = forms.CharField(
        strip=False, max_length=200, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"})
    )


class JoinForm(StudioForm):
    """A new account for somebody with an invitation."""

    username = forms.CharField(
        max_length=150,
        help_text="Lower-case letters, digits and . _ @ + -",
        widget=forms.TextInput(attrs={"autocomplete": "username"}),
    )
    full_name = _full_name()
    password = _new_password()


class WelcomeForm(StudioForm):
    """What the holder of a sign-in link is asked first."""

    full_name = _full_name()
    password = _new_password()


class NameForm(StudioForm):
    full_name = _full_name()
    email = forms.EmailField(
        label="E-mail",
        required=False,
        help_text="Where alert rules that name you write to.",
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )


class PasswordForm(StudioForm):
    """A change of password; `current` is asked of everyone who has one."""

    current = forms.CharField(
        label="Current password",
        strip=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    password = _new_password("New password")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        if not user.has_usable_password():
            del self.fields["current"]

    def clean_current(self) -> str:
        if not self.user.check_password(self.cleaned_data["current"]):
            raise forms.ValidationError("This is not your present password.")
        return str(self.cleaned_data["current"])


class TokenForm(StudioForm):
    name = forms.CharField(max_length=100, help_text="What uses it, for example “nightly evaluation”.")
    days = forms.TypedChoiceField(
        label="Valid for",
        choices=[("30", "30 days"), ("90", "90 days"), ("365", "a year"), (FOREVER, "until revoked")],
        coerce=lambda days: None if days == FOREVER else int(days),
        initial="90",
    )


class TeamNameForm(StudioForm):
    name = forms.CharField(label="Team name", max_length=100)


class NewTeamForm(TeamNameForm):
    """The same question, of a team that is not there yet."""


class InvitationForm(StudioForm):
    role = forms.TypedChoiceField(choices=Role.choices, coerce=Role, initial=Role.MEMBER)
    note = forms.CharField(
        label="For whom", max_length=200, required=False, help_text="A reminder for the team's admins."
    )


class RoleForm(StudioForm):
    role = forms.TypedChoiceField(choices=Role.choices, coerce=Role)


class TeamChoiceForm(StudioForm):
    team = forms.UUIDField()


class JudgeEndpointForm(StudioForm):
    url = forms.CharField(
        label="Address",
        max_length=500,
        help_text="As the OpenAI client takes it, for example https://api.example.com/v1.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    model = forms.CharField(max_length=200, help_text="The name that the endpoint knows the model by.")
    key = forms.CharField(
        max_length=500,
        required=False,
        help_text="All three are kept encrypted, given to workers that ask the judge, and never shown again.",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )


class SecretForm(StudioForm):
    value = forms.CharField(
        label="Access token",
        max_length=500,
        help_text="Kept encrypted, given to workers that download models, and never shown again.",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
