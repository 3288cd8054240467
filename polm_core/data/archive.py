"""An uploaded zip: one JSONL file and the images that its rows name. Nothing is unpacked that no row names.

Members are read one by one from the archive, never by a path of theirs on this disk, so that none can leave its place.
"""

import hashlib
import stat
import struct
import zipfile
import zlib
from collections import Counter
from io import BytesIO
from itertools import pairwise
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from polm_core.data.images import (
    IMAGES_FOLDER,
    SUFFIXES,
    THUMBNAIL_SIDE,
    THUMBNAILS_FOLDER,
    check_size,
    reading_image,
    unreadable_image,
)
from polm_core.data.limits import Limits, human_bytes
from polm_core.data.problems import RowProblem
from polm_core.data.source import CHUNK
from polm_core.errors import DataError

_ROWS = (".jsonl", ".ndjson")
_ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar", ".zst")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
# What stands before the content of a member, at least.
_HEADER = 30
# What systems put into archives for themselves.
_NOT_CONTENT = ("__MACOSX", ".DS_Store", "Thumbs.db")
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error)
_SIZES_TOLD = 5


class ImageArchive:
    """A zip whose members have all been looked at. Use it as a context manager.

    Raises `DataError` for an archive that could do harm, or is not one JSONL file with images.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (*_DAMAGED, OSError, ValueError) as error:
            raise _damaged(error) from error
        self._limits = limits
        self._stored: dict[str, str] = {}
        self._sizes: Counter[str] = Counter()
        self.image_bytes = 0
        try:
            self._members = _checked(self._zip.infolist(), path.stat().st_size, limits)
            self.rows_name = _rows_member(self._members)
        except DataError:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def images(self) -> int:
        """How many different images were kept."""
        return self._sizes.total()

    @property
    def sizes(self) -> dict[str, int]:
        """The usual sizes of the kept images, the most frequent first, and how many have each."""
        return dict(self._sizes.most_common(_SIZES_TOLD))

    def extract_rows(self, target: Path) -> Path:
        """Write the JSONL file to `target`. Raises `DataError` when the archive is damaged."""
        try:
            with self._zip.open(self._members[self.rows_name]) as packed, target.open("wb") as file:
                while piece := packed.read(CHUNK):
                    file.write(piece)
        except _DAMAGED as error:
            raise _damaged(error) from error
        return target

    def keep(self, name: str, folder: Path) -> str:
        """Have the image that a row calls `name` in `folder`, under a name made of its content, and return that.

        Raises `RowProblem` for what is not there, or no image that can be used.
        """
        member = self._find(name)
        if member not in self._stored:
            self._stored[member] = self._store(member, folder)
        return self._stored[member]

    def _find(self, name: str) -> str:
        """The member a row means: beside the rows, below `images` there, or by its place in the archive."""
        beside = PurePosixPath(self.rows_name).parent
        wanted = PurePosixPath(name.removeprefix("./"))
        for place in (beside / wanted, beside / IMAGES_FOLDER / wanted, wanted):
            if str(place) in self._members:
                return str(place)
        raise RowProblem(
            "image.missing",
            f"The zip holds no image '{name[:200]}', which the row names.",
            "Put it beside the JSONL file, and name it by its place from there.",
        )

    def _store(self, member: str, folder: Path) -> str:
        from PIL import Image

        info = self._members[member]
        if info.file_size > self._limits.max_image_bytes:
            raise RowProblem(
                "image.too-large",
                f"The image '{member[:200]}' has {human_bytes(info.file_size)}; at most "
                f"{human_bytes(self._limits.max_image_bytes)} are read.",
                "Scale it down, or compress it more.",
            )
        try:
            content = self._zip.read(info)
        except _DAMAGED as error:
            raise unreadable_image(member) from error
        digest = hashlib.sha256(content).hexdigest()
        with reading_image(member), Image.open(BytesIO(content), formats=tuple(SUFFIXES)) as image:
            check_size(image.size, member)
            image.load()
            name, (width, height) = f"{digest}.{SUFFIXES[str(image.format)]}", image.size
            if max(image.size) > THUMBNAIL_SIDE:
                _write_thumbnail(image, folder / THUMBNAILS_FOLDER / f"{digest}.webp")
        target = folder / IMAGES_FOLDER / name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
            self.image_bytes += len(content)
            self._sizes[f"{width} × {height}"] += 1
        return name


def _write_thumbnail(image: Any, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    small.save(target)


def _checked(infos: list[zipfile.ZipInfo], size: int, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """The members that are files, by their names, once it is sure that none of them, nor all together, do harm."""
    if len(infos) > limits.max_members:
        raise _refused(f"holds {len(infos):,} files; at most {limits.max_members:,} are read", "Split it.")
    members: dict[str, zipfile.ZipInfo] = {}
    unpacked = 0
    for info in infos:
        name = _safe_name(info)
        unpacked += info.file_size
        if info.is_dir() or any(part in _NOT_CONTENT for part in PurePosixPath(name).parts):
            continue
        if name in members:
            raise _refused(f"holds '{name[:200]}' twice", "Give each file a name of its own.")
        members[name] = info
    if unpacked > limits.max_bytes:
        raise DataError(
            f"The content is over {human_bytes(limits.max_bytes)}.",
            code="data.too-large",
            advice="Split the file into smaller datasets.",
        )
    if _overlap(infos) or (unpacked > limits.ratio_after and unpacked > limits.max_ratio * size):
        raise DataError(
            f"The zip unpacks to over {limits.max_ratio:g} times its size, which no real dataset does.",
            code="data.bomb",
            advice="Pack it again with its images as they are: PNG, JPEG and WebP hardly shrink.",
        )
    return members


def _overlap(infos: list[zipfile.ZipInfo]) -> bool:
    """Whether members lie over each other: the trick of the densest bombs."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    return any(
        one.header_offset + _HEADER + one.compress_size > after.header_offset for one, after in pairwise(ordered)
    )


def _safe_name(info: zipfile.ZipInfo) -> str:
    """The name of a member, whose place is within the archive and which is a plain file or folder."""
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    path = PurePosixPath(name)
    # Of a name with a NUL, zipfile shows what is before it.
    if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":" or info.orig_filename != name:
        raise _refused(
            f"holds '{name[:200]}', whose place is outside of it", "Use plain names, with / between folders."
        )
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(f"holds '{name[:200]}', which is a link or a device", "Pack the files themselves.")
    if info.flag_bits & _ENCRYPTED:
        raise _refused("is encrypted", "Pack it without a password.")
    if info.compress_type not in _METHODS:
        raise _refused(f"holds '{name[:200]}', packed in an unusual way", "Use the usual compression, deflate.")
    if name.lower().endswith(_ARCHIVES):
        raise _refused(f"holds another archive, '{name[:200]}'", "Unpack that first.")
    return str(path)


def _rows_member(members: dict[str, zipfile.ZipInfo]) -> str:
    found = [name for name in members if name.lower().endswith(_ROWS)]
    if len(found) != 1:
        what = "no JSONL file" if not found else f"{len(found)} JSONL files, '{found[0]}' and '{found[1]}'"
        raise _refused(f"holds {what}", "Put one file that ends in .jsonl into it, and the images that its rows name.")
    return found[0]


def _refused(what: str, advice: str) -> DataError:
    return DataError(f"The zip {what}.", code="data.zip", advice=advice)


def _damaged(error: Exception) -> DataError:
    return DataError(
        f"The zip is damaged, or no zip: {' '.join(str(error).split())[:200] or type(error).__name__}.",
        code="data.zip",
        advice="Pack it again.",
    )
