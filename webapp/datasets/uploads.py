"""Receiving files: straight to disk, within bounds, from known callers, and nothing left of what is cut off."""

import shutil
import time
from pathlib import PurePath
from typing import IO, Any

from django.conf import settings
from django.core.files.uploadhandler import StopUpload, TemporaryFileUploadHandler

from polm_core.data.limits import GB, human_bytes
from webapp.errors import TooLarge, Unavailable

# What an upload leaves free on the disk, for the database and the runs that share it.
DISK_RESERVE = 1 * GB
# Boundaries, headers and fields of a multipart body, on top of the file in it.
FORM_ALLOWANCE = 1024**2
ABANDONED_SECONDS = 24 * 3600


def too_large() -> TooLarge:
    """The refusal of a file over the limit."""
    return TooLarge(
        f"The file is larger than the {human_bytes(settings.MAX_UPLOAD_BYTES)} that are accepted.",
        advice="Compress it with gzip, or split it into several datasets.",
    )


def check_disk(needed: int) -> None:
    """Raise Unavailable unless `needed` bytes fit beside the reserve."""
    if shutil.disk_usage(settings.UPLOADS_DIR).free < needed + DISK_RESERVE:
        raise Unavailable(
            "The studio's disk is nearly full, so the file was not taken.",
            advice="Delete datasets or checkpoints that are not needed, or ask whoever runs the studio for space.",
        )


class BoundedUploadHandler(TemporaryFileUploadHandler):
    """Writes each file of a form to `UPLOADS_DIR`; what is not moved away is removed with the request.

    Raises TooLarge before reading when the declared length says so, else at the first byte too many, and Unavailable
    when the disk has no room. Files of callers who are not signed in are not read at all.
    """

    chunk_size = 1024**2

    def handle_raw_input(
        self,
        input_data: IO[bytes],
        META: dict[str, str],
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> None:
        if content_length > settings.MAX_UPLOAD_BYTES + FORM_ALLOWANCE:
            raise too_large()
        check_disk(content_length)

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        if not _known_caller(self.request):
            raise StopUpload(connection_reset=True)
        remove_abandoned()
        super().new_file(field_name, _short(file_name), *args, **kwargs)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        if start + len(raw_data) > settings.MAX_UPLOAD_BYTES:
            self.upload_interrupted()
            raise too_large()
        super().receive_data_chunk(raw_data, start)


def remove_abandoned() -> None:
    """Remove files of uploads during which the process was killed."""
    oldest = time.time() - ABANDONED_SECONDS
    for path in settings.UPLOADS_DIR.glob("*.upload*"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def _short(file_name: str) -> str:
    """The name within what a file system and the database take, its ending kept."""
    path = PurePath(file_name)
    return path.stem[:200] + path.suffix[:20]


def _known_caller(request: Any) -> bool:
    """A token's bearer has an actor by now; of a session's owner Django knows the user."""
    if getattr(request, "actor", None) is not None:
        return True
    user = getattr(request, "user", None)
    return user is not None and user.is_authenticated
