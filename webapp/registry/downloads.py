"""A checkpoint as a zip that is made while it is sent: nothing is buffered, and every file is verified on the way."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from zipstream import ZipStream

from webapp import artifacts
from webapp.errors import NotFound
from webapp.registry.models import Checkpoint, Share
from webapp.registry.shares import share_count_download
from webapp.streaming import file_response


class DamagedFile(Exception):
    """A stored file is not what its manifest says; the download ends before the archive is whole."""


@dataclass(frozen=True)
class Archive:
    """A zip that has not been written yet: its file name, its exact size in bytes, and its content."""

    name: str
    size: int
    content: Iterator[bytes]


def archive(checkpoint: Checkpoint) -> Archive:
    """The checkpoint's model or adapter files in one folder, stored uncompressed. Raises NotFound when one is gone."""
    folder, stream = checkpoint.folder_name, ZipStream(sized=True)
    for file in checkpoint.download_files:
        key = f"{checkpoint.key}/{file['path']}"
        if not artifacts.exists(key):
            raise NotFound("The checkpoint's files are no longer in the artifact store.")
        stream.add(_verified(key, file), f"{folder}/{file['path']}", size=file["size"])
    return Archive(f"{folder}.zip", len(stream), iter(stream))


def download_response(request: HttpRequest, checkpoint: Checkpoint, share: Share | None) -> HttpResponseBase:
    """The answer to GET and HEAD for the checkpoint's zip; a GET counts as a download of the share it came through."""
    zipped = archive(checkpoint)
    if share is not None and request.method != "HEAD":
        share_count_download(share)
    return file_response(request, zipped.content, name=zipped.name, size=zipped.size, content_type="application/zip")


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
