"""Checkpoints and exports as they are sent: a zip is made on the way, nothing is buffered, every file is verified."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from zipstream import ZipStream

from polm_core.export import ExportFormat
from webapp import artifacts
from webapp.claimed import WorkStatus
from webapp.errors import Conflict, NotFound
from webapp.registry.models import Checkpoint, Export, Share
from webapp.registry.shares import share_count_download
from webapp.streaming import file_response


class DamagedFile(Exception):
    """A stored file is not what its manifest says; the download ends before the archive is whole."""


@dataclass(frozen=True)
class Archive:
    """A file that has not been written yet: its name, its exact size in bytes, and its content."""

    name: str
    size: int
    content: Iterator[bytes]


def archive(checkpoint: Checkpoint) -> Archive:
    """The checkpoint's model or adapter files in one folder, stored uncompressed. Raises NotFound when one is gone."""
    return _zipped(checkpoint.key, checkpoint.download_files, checkpoint.folder_name)


def _zipped(key: str, files: list[dict[str, Any]], folder: str) -> Archive:
    stream = ZipStream(sized=True)
    for file in files:
        stream.add(_stored(key, file), f"{folder}/{file['path']}", size=file["size"])
    return Archive(f"{folder}.zip", len(stream), iter(stream))


def _stored(key: str, file: dict[str, Any]) -> Iterator[bytes]:
    """The content of a file that is there. Raises NotFound."""
    if not artifacts.exists(f"{key}/{file['path']}"):
        raise NotFound("The files are no longer in the artifact store.")
    return _verified(f"{key}/{file['path']}", file)


def download_response(request: HttpRequest, checkpoint: Checkpoint, share: Share | None) -> HttpResponseBase:
    """The answer to GET and HEAD for the checkpoint's zip; a GET counts as a download of the share it came through."""
    return _send(request, archive(checkpoint), "application/zip", share)


def export_response(request: HttpRequest, export: Export, share: Share | None) -> HttpResponseBase:
    """The same for an export: one file as it is, several as a zip. Raises Conflict for one that is not done."""
    if export.status != WorkStatus.DONE:
        raise Conflict("The export is not done.", advice="See the checkpoint's page for how far it is.")
    if ExportFormat(export.format).is_gguf:
        (file,) = export.files
        whole = Archive(file["path"], file["size"], _stored(export.key, file))
        return _send(request, whole, "application/octet-stream", share)
    zipped = _zipped(export.key, export.files, f"{export.checkpoint.folder_name}-{export.format}")
    return _send(request, zipped, "application/zip", share)


def _send(request: HttpRequest, whole: Archive, content_type: str, share: Share | None) -> HttpResponseBase:
    if share is not None and request.method != "HEAD":
        share_count_download(share)
    return file_response(request, whole.content, name=whole.name, size=whole.size, content_type=content_type)


def _verified(key: str, file: dict[str, Any]) -> Iterator[bytes]:
    """The file's content; raises DamagedFile after it, or as soon as there is too much of it."""
    digest, left = hashlib.sha256(), file["size"]
    for piece in artifacts.chunks(key):
        left -= len(piece)
        if left < 0:
            break
        digest.update(piece)
        yield piece
    if left or digest.hexdigest() != file["sha256"]:
        raise DamagedFile(key)
