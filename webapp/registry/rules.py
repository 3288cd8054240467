"""What names, hub ids, folders and manifests may look like. Each function returns the clean value or raises Invalid."""

import re
from pathlib import Path, PurePosixPath

from django.conf import settings

from polm_core.run_dir import Manifest
from webapp.errors import Invalid
from webapp.registry.models import CheckpointKind

MAX_NAME = 200
MAX_PATH = 500

_REPO = re.compile(r"(?=.{1,96}\Z)[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?(?<![.-])", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,99}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOT_IN_FILE_NAMES = frozenset('\\:*?"<>|')


def clean_name(name: str) -> str:
    cleaned = " ".join(name.split())
    if not cleaned.isprintable() or not 1 <= len(cleaned) <= MAX_NAME:
        raise Invalid("The name is not accepted.", fields={"name": [f"Give 1 to {MAX_NAME} printable characters."]})
    return cleaned


def clean_hub_id(hub_id: str) -> str:
    """The rules are the hub's own (`huggingface_hub.utils.validate_repo_id`)."""
    cleaned = hub_id.strip()
    if not _REPO.fullmatch(cleaned) or "--" in cleaned or ".." in cleaned or cleaned.endswith(".git"):
        raise Invalid(
            "That is not a hub id.",
            fields={"hub_id": ["Give it as owner/name, like HuggingFaceTB/SmolLM2-360M-Instruct, not as a URL."]},
        )
    return cleaned


def clean_revision(revision: str) -> str:
    """A branch, tag or commit; the empty string is the default branch."""
    cleaned = revision.strip()
    if cleaned and (not _REVISION.fullmatch(cleaned) or ".." in cleaned):
        raise Invalid("That is not a revision.", fields={"revision": ["Give a branch, a tag or a commit's hash."]})
    return cleaned


def path_within_roots(path: str) -> Path:
    """The folder that `path` names once every symbolic link is followed; it must lie below a root."""
    roots: list[Path] = settings.MODEL_ROOTS
    try:
        resolved = Path(path.strip()).resolve(strict=False) if path.strip().startswith("/") else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, a loop of links
        resolved = None
    if resolved is None or not any(root in resolved.parents for root in roots) or len(str(resolved)) > MAX_PATH:
        allowed = " or ".join(str(root) for root in roots)
        raise Invalid(
            "Models are not read from there.", fields={"path": [f"Give a folder below {allowed} (POLM_MODEL_ROOTS)."]}
        )
    return resolved


def check_manifest(key: str, manifest: Manifest) -> None:
    """Refuse a manifest that could make anybody read or write outside the checkpoint's own folder."""
    paths = [file.path for file in manifest.files]
    sound = (
        is_plain_path(key)
        and len(set(paths)) == len(paths)
        and all(is_plain_path(path) and path != "manifest.json" for path in paths)
        and all(_SHA256.fullmatch(file.sha256) and file.size >= 0 for file in manifest.files)
        and set(manifest.trainer_state) < set(paths)
        and manifest.kind in CheckpointKind.values
    )
    if not sound:
        raise Invalid(
            "The checkpoint's manifest is not sound.", advice="It is not recorded; save the checkpoint again."
        )


def is_plain_path(path: str) -> bool:
    """Whether `path` is relative, normal, and names the same file on every system."""
    parts = PurePosixPath(path).parts
    return bool(parts) and path == "/".join(parts) and path.isprintable() and all(map(_is_plain_name, parts))


def _is_plain_name(name: str) -> bool:
    return not name.endswith((".", " ")) and not set(name) & _NOT_IN_FILE_NAMES
