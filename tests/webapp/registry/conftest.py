"""A checkpoint of the team, and people around it."""

import pytest

from tests.support.checkpoints import make_checkpoint
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.registry.models import Checkpoint


@pytest.fixture
def checkpoint(team: Team) -> Checkpoint:
    return make_checkpoint(team)


@pytest.fixture
def other_actor(outsider: User) -> Actor:
    """A member of the other team."""
    return Actor(outsider)
