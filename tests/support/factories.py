"""Plain makers of teams, people and datasets. Runs and checkpoints are made by `runs` and `checkpoints` beside."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polm_core.data.rows import INDEX_NAME, ROWS_NAME, RowsWriter
from webapp import artifacts
from webapp.accounts.models import Membership, Role, Team, User
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.datasets.services import version_folder
from webapp.playground.models import Generation
from webapp.registry.models import Checkpoint, Share, ShareKind

PASSWORD = "correct horse battery staple"
CONVERSATIONS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {number} + 1?"},
            {"role": "assistant", "content": str(number + 1)},
        ]
    }
    for number in range(8)
]


def make_team(name: str = "Red") -> Team:
    return Team.objects.create(name=name, slug=name.lower())


def make_user(username: str, team: Team | None = None, role: Role = Role.MEMBER) -> User:
    """A user whose password is PASSWORD, in `team` with that role when one is given."""
    user = User(username=username, full_name=username.capitalize())
    user.set_password(PASSWORD)
    user.save()
    if team is not None:
        Membership.objects.create(team=team, user=user, role=role)
    return user


def make_version(team: Team, name: str = "rows", rows: Sequence[Mapping[str, Any]] = CONVERSATIONS) -> DatasetVersion:
    """The ready first version of a dataset of `team`, its rows (conversations by default) in the artifact store."""
    dataset = Dataset.objects.create(team=team, name=name)
    version = DatasetVersion(dataset=dataset, status=VersionStatus.READY, filename=f"{name}.jsonl")
    version.rows_key = f"{version_folder(version.pk)}/rows"
    version.format = "conversation"
    with tempfile.TemporaryDirectory() as folder:
        with RowsWriter(Path(folder)) as writer:
            for row in rows:
                writer.write(json.dumps(row).encode() + b"\n")
        for file in (ROWS_NAME, INDEX_NAME):
            artifacts.put(Path(folder) / file, f"{version.rows_key}/{file}")
    version.rows, version.bytes, version.sha256 = writer.count, writer.bytes, writer.sha256
    version.save()
    return version


def make_share(checkpoint: Checkpoint, **values: Any) -> Share:
    """Read access to a checkpoint; by a link unless `team` or `user` is given."""
    kind = next((kind for kind in (ShareKind.TEAM, ShareKind.USER) if kind.value in values), ShareKind.LINK)
    return Share.objects.create(checkpoint=checkpoint, kind=kind, **values)


def make_generation(team: Team, checkpoint: Checkpoint, **values: Any) -> Generation:
    """A prompt that waits for its answer."""
    return Generation.objects.create(team=team, checkpoint=checkpoint, prompt="What is 1 + 1?", **values)
