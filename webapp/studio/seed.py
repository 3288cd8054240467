"""What a new studio starts with."""

from pathlib import Path
from tempfile import TemporaryDirectory

from django.db import transaction

from polm_core.data.samples import write_samples
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.accounts.selectors import first_admin
from webapp.accounts.services import admin_ensure, team_ensure_starter
from webapp.datasets.models import Origin
from webapp.datasets.services import dataset_create_from_path
from webapp.registry.services import model_ensure_starter
from webapp.runs.models import Project
from webapp.runs.services import project_for

FIRST_ADMIN = "admin"


def seed() -> None:
    """Create the starter content that is missing. What people deleted later does not come back."""
    model_ensure_starter()
    with transaction.atomic():
        team = team_ensure_starter()
        if not Project.objects.filter(team=team).exists():
            _fill(team)


def _fill(team: Team) -> None:
    """A first admin, a project and the sample datasets for a team that has nothing yet."""
    known = first_admin()
    actor = Actor(admin_ensure(username=known.username if known else FIRST_ADMIN))
    project_for(actor=actor, team=team, ref=None)
    with TemporaryDirectory() as folder:
        for path in write_samples(Path(folder)).values():
            name = path.stem.replace("-", " ").capitalize()
            dataset_create_from_path(actor=actor, team=team, path=path, name=name, origin=Origin.SYNTHETIC)
