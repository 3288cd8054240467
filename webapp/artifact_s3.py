"""Uploads to S3 that go on where they were cut off, and that are known to have arrived whole.

A file goes in parts. A worker that starts again finds the unfinished upload in the bucket and sends only the parts that
are not there. Each part is sent with its SHA-256, which the store checks where it can; that all of them arrived is read
from the object's ETag, which S3 makes of the parts' MD5. A store whose ETags mean something else (SSE-KMS, SSE-C) has
the object read back once instead.
"""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MAX_PARTS = 10_000
# What a store answers when it has no room left; S3 itself always has.
FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage", "507"}
_CHUNK = 1024 * 1024
part_bytes = 16 * 1024**2


class Part(NamedTuple):
    """A stretch of a file, as it is on this machine."""

    start: int
    size: int
    md5: bytes
    sha256: bytes


class Parts(NamedTuple):
    """A whole file: the digest of all of it, and its parts."""

    sha256: str
    parts: list[Part]

    @property
    def etag(self) -> str:
        """What S3 calls the object, once these are its parts."""
        if len(self.parts) == 1:
            return self.parts[0].md5.hex()
        return f"{_md5(b''.join(part.md5 for part in self.parts)).hexdigest()}-{len(self.parts)}"


def upload(filesystem: Any, path: str, source: Path, sha256: str | None, digest: Callable[[], str]) -> None:
    """Put `source` at `path` (bucket and key), unless it is there already. `digest` reads the stored object back.

    Raises OSError when the file is no longer what `sha256` says, or has not arrived as it is.
    """
    bucket, _, key = path.partition("/")
    place = {"Bucket": bucket, "Key": key}
    found = measure(source)
    if sha256 not in (None, found.sha256):
        raise OSError(f"{source} has changed since its checksum was taken")
    if _stored_etag(filesystem, place) == found.etag:
        return
    if len(found.parts) == 1:
        etag = _etag(_send(filesystem, "put_object", source, found.parts[0], place))
    else:
        etag = _send_parts(filesystem, place, source, found.parts)
    if etag != found.etag and digest() != found.sha256:
        raise OSError(f"{key} did not arrive whole in the artifact store")


def measure(source: Path) -> Parts:
    """Read a file once, for the digests of it and of its parts."""
    length = source.stat().st_size
    step = max(part_bytes, -(-length // MAX_PARTS))
    whole = hashlib.sha256()
    parts = []
    with source.open("rb") as file:
        for start in range(0, length, step) or (0,):
            md5, sha256, left = _md5(), hashlib.sha256(), min(step, length - start)
            size = left
            while left and (piece := file.read(min(_CHUNK, left))):
                left -= len(piece)
                for one in (md5, sha256, whole):
                    one.update(piece)
            parts.append(Part(start, size, md5.digest(), sha256.digest()))
    return Parts(whole.hexdigest(), parts)


def _send_parts(filesystem: Any, place: dict[str, str], source: Path, parts: list[Part]) -> str:
    unfinished = _unfinished(filesystem, place)
    if unfinished:
        upload_id = unfinished[-1]
    else:
        answer = filesystem.call_s3("create_multipart_upload", **place, ChecksumAlgorithm="SHA256")
        upload_id = answer["UploadId"]
    where = {**place, "UploadId": upload_id}
    there = _parts_there(filesystem, where)
    sent = []
    for number, part in enumerate(parts, 1):
        etag = part.md5.hex()
        if there.get(number) != etag:
            etag = _etag(_send(filesystem, "upload_part", source, part, {**where, "PartNumber": number}))
        sent.append({"PartNumber": number, "ETag": f'"{etag}"', "ChecksumSHA256": _base64(part.sha256)})
    answer = filesystem.call_s3("complete_multipart_upload", **where, MultipartUpload={"Parts": sent})
    for other in unfinished[:-1]:
        filesystem.call_s3("abort_multipart_upload", **place, UploadId=other)
    return _etag(answer)


def _unfinished(filesystem: Any, place: dict[str, str]) -> list[str]:
    """The uploads of this object that were begun and not completed, newest last."""
    answer = filesystem.call_s3("list_multipart_uploads", Bucket=place["Bucket"], Prefix=place["Key"])
    uploads = [upload for upload in answer.get("Uploads", []) if upload["Key"] == place["Key"]]
    return [upload["UploadId"] for upload in sorted(uploads, key=lambda upload: upload["Initiated"])]


def _parts_there(filesystem: Any, where: dict[str, str]) -> dict[int, str]:
    there: dict[int, str] = {}
    marker = 0
    while True:
        answer = filesystem.call_s3("list_parts", **where, PartNumberMarker=marker)
        there |= {part["PartNumber"]: _etag(part) for part in answer.get("Parts", [])}
        if not answer.get("IsTruncated"):
            return there
        marker = answer["NextPartNumberMarker"]


def _send(filesystem: Any, call: str, source: Path, part: Part, where: dict[str, Any]) -> dict[str, Any]:
    with source.open("rb") as file:
        file.seek(part.start)
        body = file.read(part.size)
    answer: dict[str, Any] = filesystem.call_s3(call, **where, Body=body, ChecksumSHA256=_base64(part.sha256))
    return answer


def _stored_etag(filesystem: Any, place: dict[str, str]) -> str:
    """The ETag of what is stored there; empty when nothing is."""
    try:
        return _etag(filesystem.call_s3("head_object", **place))
    except FileNotFoundError:
        return ""


def _etag(answer: dict[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def _md5(content: bytes = b"") -> Any:
    return hashlib.md5(content, usedforsecurity=False)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
