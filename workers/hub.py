"""Fetching a model from a Hugging Face hub, as a process of its own: `python -m workers.hub job.json`.

The job is a `HubJob`; the answer is written as a `HubAnswer` to `answer.json` beside it, and while the files come in
`progress.json` says how many bytes there will be. Where the hub is and who asks comes from the environment, as
huggingface_hub defines it (`HF_ENDPOINT`, `HF_TOKEN`).
"""

import errno
import shutil
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from polm_core.errors import ModelError, PolmError, ResourceError
from polm_core.run_dir import sha256_of, write_atomic

TEXT_FILES = (".json", ".jinja", ".model")
VOCABULARIES = frozenset({"merges.txt", "vocab.txt"})


class HubJob(BaseModel):
    """What to fetch, and the folder to put it in. An empty revision is the default branch."""

    hub_id: str
    revision: str = ""
    folder: Path


class HubProgress(BaseModel):
    """How many bytes the folder will hold in the end."""

    bytes_total: int


class HubAnswer(BaseModel):
    """The commit that was fetched, or `PolmError.as_dict()`."""

    revision: str = ""
    error: dict[str, Any] | None = None


def fetch(job: HubJob, tell: Path) -> str:
    """Download the model's weights (safetensors only), configuration and tokenizer; returns the commit.

    Raises ModelError when the hub has no such model, or not in a form that is safe to load; ResourceError when the
    disk is too small.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(job.hub_id, revision=job.revision or None, files_metadata=True)
        wanted = [file for file in info.siblings or [] if _is_wanted(file.rfilename)]
        _check_files(job.hub_id, {file.rfilename for file in info.siblings or []})
        total = sum(file.size or 0 for file in wanted)
        _check_disk(job.folder, total)
        write_atomic(tell, HubProgress(bytes_total=total).model_dump_json())
        names = [file.rfilename for file in wanted]
        snapshot_download(job.hub_id, revision=info.sha, allow_patterns=names, local_dir=job.folder)
    except PolmError:
        raise
    except Exception as error:
        raise _explained(job, error) from error
    for file in wanted:
        if file.lfs and sha256_of(job.folder / file.rfilename) != file.lfs.sha256:
            raise ModelError(f"{file.rfilename} arrived damaged.", code="model.hub", advice="Try again.")
    shutil.rmtree(job.folder / ".cache", ignore_errors=True)
    return str(info.sha)


def _is_wanted(name: str) -> bool:
    """Files at the top of the repository that loading needs; `consolidated` weights are a second copy."""
    if "/" in name or name.startswith((".", "consolidated")):
        return False
    return name.endswith((".safetensors", *TEXT_FILES)) or name in VOCABULARIES


def _check_files(hub_id: str, names: set[str]) -> None:
    if "config.json" not in names:
        kind = "an adapter" if "adapter_config.json" in names else "no model that transformers can load"
        raise ModelError(
            f"{hub_id} holds {kind}: it has no config.json.",
            code="model.missing",
            advice="Add the base model; a checkpoint of ours that holds an adapter is registered on its own page.",
        )
    if not any(name.endswith(".safetensors") and _is_wanted(name) for name in names):
        raise ModelError(
            f"{hub_id} has no safetensors weights; other weight files can run code and are not loaded.",
            code="model.unsafe",
            advice="Look for a copy of the model with .safetensors files, or convert it where you trust it.",
        )


def _check_disk(folder: Path, total: int) -> None:
    free = shutil.disk_usage(folder).free
    needed = 2 * total + 2**30  # it is copied into the artifact store, and the machine must go on
    if free < needed:
        raise ResourceError(
            f"The model needs {needed / 2**30:.1f} GiB of disk here and {free / 2**30:.1f} GiB are free.",
            code="resource.disk",
            advice="Make room, or choose a smaller model.",
        )


def _explained(job: HubJob, error: Exception) -> Exception:
    """The hub's refusal in words a person can act on; anything unforeseen stays as it is."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return ModelError(
            f"{job.hub_id} is gated: its owner must let you in.",
            code="model.gated",
            advice="Ask for access on the model's page, then set the team's hub token on the Team page.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{job.hub_id} has no revision {job.revision}.", code="model.missing")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"The hub has no model {job.hub_id}, or it is private.",
            code="model.missing",
            advice="Check the spelling; for a private model set the team's hub token on the Team page.",
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ResourceError("The disk is full.", code="resource.disk", advice="Make room, then try again.")
    if isinstance(error, OSError | errors.HfHubHTTPError) or type(error).__module__.split(".")[0] == "httpx":
        reason = " ".join(str(error).split())[:200]
        return ModelError(
            f"The hub at {constants.ENDPOINT} did not answer: {reason}",
            code="model.hub_unreachable",
            advice="Check the worker's network and HF_ENDPOINT; without a network, add the model as a folder.",
        )
    return error


def main(job_path: Path) -> None:
    job = HubJob.model_validate_json(job_path.read_bytes())
    try:
        answer = HubAnswer(revision=fetch(job, job_path.with_name("progress.json")))
    except PolmError as error:
        answer = HubAnswer(error=error.as_dict())
    write_atomic(job_path.with_name("answer.json"), answer.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
