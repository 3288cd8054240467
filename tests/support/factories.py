"""Plain makers of teams, people and datasets. Runs and checkpoints are made by `runs` and `checkpoints` beside."""

import tempfile
from pathlib import Path
from typing import Any

from polm_core.data.prepare import prepare
from polm_core.data.preview import HEAD_NAME
from polm_core.data.report import PrepareJob
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Membership, Role, Team, User
from webapp.datasets.leases import version_claim, version_finish
from webapp.datasets.models import DatasetVersion
from webapp.datasets.services import dataset_create_from_path, head_folder, version_folder
from webapp.datasets.storing import rows_store
from webapp.playground.models import Generation
from webapp.registry.models import Checkpoint, Share, ShareKind

PASSWORD = "correct horse battery staple"
CONVERSATIONS = b"".join(
    b'{"messages": [{"role": "user", "content": "%d + 1 ="}, {"role": "assistant", "content": "%d"}]}\n' % (n, n + 1)
    for n in range(8)
)


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


def make_version(
    actor: Actor, name: str = "rows", content: bytes = CONVERSATIONS, filename: str = "rows.jsonl"
) -> DatasetVersion:
    """The ready first version of a dataset of the actor's team: uploaded and prepared, all within this process."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / filename, Path(folder) / "out"
        source.write_bytes(content)
        dataset = dataset_create_from_path(actor=actor, team=actor.current_team, path=source, name=name)
        claim = version_claim(version_id=dataset.versions.get().pk)
        assert claim is not None
        report = prepare(PrepareJob(source=source, filename=source.name, out=out))
        rows_key = f"{version_folder(claim.version_id)}/rows"
        artifacts.put(out / HEAD_NAME, f"{head_folder(claim.version_id)}/{HEAD_NAME}")
        rows_store(out, rows_key, report.sha256)
        version_finish(claim, report, rows_key=rows_key)
    return dataset.versions.get()


def make_share(checkpoint: Checkpoint, **values: Any) -> Share:
    """Read access to a checkpoint; by a link unless `team` or `user` is given."""
    kind = next((kind for kind in (ShareKind.TEAM, ShareKind.USER) if kind.value in values), ShareKind.LINK)
    return Share.objects.create(checkpoint=checkpoint, kind=kind, **values)


def make_generation(team: Team, checkpoint: Checkpoint, **values: Any) -> Generation:
    """A prompt that waits for its answer."""
    return Generation.objects.create(team=team, checkpoint=checkpoint, prompt="What is 1 + 1?", **values)
