"""Zips of rows and images: what is kept of them, and what is refused because it could do harm."""

import hashlib
import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from polm_core.data.limits import MB, Limits
from polm_core.data.report import PrepareReport, Status
from polm_core.data.rows import read_rows
from polm_core.formats import Format
from tests.polm_core.data.conftest import Prepare
from tests.support.images import COLOURS, colour_rows, colour_zip, jsonl, picture, talk, zipped

ROWS = jsonl([talk("a.png", "red")])


def special(name: str, mode: int, content: bytes = b"/etc/passwd") -> bytes:
    """A zip with rows, an image and a member of another kind than a file."""
    buffer = io.BytesIO(zipped({"rows.jsonl": ROWS, "a.png": picture()}))
    info = zipfile.ZipInfo(name)
    info.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(info, content)
    return buffer.getvalue()


def twice() -> bytes:
    buffer = io.BytesIO(zipped({"rows.jsonl": ROWS, "a.png": picture()}))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.png", picture("blue"))
    return buffer.getvalue()


def encrypted() -> bytes:
    content = bytearray(zipped({"rows.jsonl": ROWS}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def overlapping() -> bytes:
    """Two entries of the directory that lead to the same content: the trick of the densest bombs."""
    content = zipped({"rows.jsonl": ROWS, "a.png": bytes(4000)})
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    last = content[start:end].rindex(b"PK\x01\x02") + start
    entries = b"".join(content[last:end].replace(b"a.png", f"{n}.png".encode()) for n in range(9))
    size, count = end - start + len(entries), 11
    tail = content[end : end + 8] + struct.pack("<HHIIH", count, count, size, start, 0)
    return content[:end] + entries + tail


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def prepared(prepare: Prepare, content: bytes, **job: Any) -> PrepareReport:
    return prepare(content, "talks.zip", **job)


def test_images_are_kept_by_their_content_and_rows_name_them_so(prepare_bytes: Prepare, out: Path) -> None:
    report = prepared(prepare_bytes, colour_zip(12))
    assert report.error is None
    assert (report.status, report.format, report.rows_used) == (Status.READY, Format.IMAGE_CONVERSATION, 12)
    assert (report.stats.images, report.stats.image_sizes) == (3, {"16 × 16": 3})
    kept = {path.name: path.read_bytes() for path in (out / "images").iterdir()}
    assert sorted(kept.values()) == sorted(picture(colour) for colour in COLOURS)
    assert all(name == f"{hashlib.sha256(content).hexdigest()}.png" for name, content in kept.items())
    red = hashlib.sha256(picture("red")).hexdigest()
    assert read_rows(out, 0, 1) == [{**colour_rows(1)[0], "images": [f"{red}.png"]}]
    assert not (out / "unpacked.jsonl").exists()


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"image": "a.png", "question": "What?", "answer": "red"}, "What?"),
        ({"image": "./a.png", "instruction": "What?", "output": "It is red."}, "What?"),
        (
            {
                "id": "1",
                "image": "sub/b.jpg",
                "conversations": [
                    {"from": "human", "value": "<image>\nWhat?"},
                    {"from": "gpt", "value": "Red."},
                ],
            },
            "<image>\nWhat?",
        ),
        ({"images": ["a.png"], "messages": talk("", "red")["prompt"] + talk("", "red")["completion"]}, "Which colour?"),
    ],
)
def test_usual_shapes_are_known(prepare_bytes: Prepare, out: Path, row: dict[str, Any], prompt: str) -> None:
    content = zipped(
        {"set/rows.jsonl": jsonl([row] * 3), "set/a.png": picture(), "set/images/sub/b.jpg": picture(kind="JPEG")}
    )
    report = prepared(prepare_bytes, content)
    assert (report.error, report.format) == (None, Format.IMAGE_CONVERSATION)
    (first,) = read_rows(out, 0, 1)
    assert first["prompt"] == [{"role": "user", "content": prompt}]
    assert first["completion"][0]["role"] == "assistant"


def test_the_content_of_an_image_counts_and_not_its_name(prepare_bytes: Prepare, out: Path) -> None:
    content = zipped({"rows.jsonl": ROWS, "a.png": picture(kind="WEBP")})
    assert prepared(prepare_bytes, content).error is None
    assert [path.suffix for path in (out / "images").iterdir()] == [".webp"]


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (zipped({"rows.jsonl": ROWS, "../a.png": picture()}), "data.zip", "'../a.png', whose place is outside"),
        (zipped({"rows.jsonl": ROWS, "a/../../b.png": b""}), "data.zip", "whose place is outside"),
        (zipped({"rows.jsonl": ROWS, "/etc/a.png": picture()}), "data.zip", "'/etc/a.png', whose place is outside"),
        (zipped({"rows.jsonl": ROWS, "C:/a.png": picture()}), "data.zip", "whose place is outside"),
        (zipped({"rows.jsonl": ROWS, "..\\a.png": picture()}), "data.zip", "whose place is outside"),
        (special("b.png", stat.S_IFLNK), "data.zip", "'b.png', which is a link or a device"),
        (special("b.png", stat.S_IFCHR), "data.zip", "which is a link or a device"),
        (special("b.png", stat.S_IFIFO), "data.zip", "which is a link or a device"),
        (twice(), "data.zip", "holds 'a.png' twice"),
        (encrypted(), "data.zip", "is encrypted"),
        (zipped({"rows.jsonl": ROWS, "more.zip": zipped({})}), "data.zip", "holds another archive, 'more.zip'"),
        (zipped({"rows.jsonl": ROWS, "more.JSONL": ROWS}), "data.zip", "holds 2 JSONL files, 'rows.jsonl'"),
        (zipped({"a.png": picture()}), "data.zip", "holds no JSONL file"),
        (zipped({}), "data.zip", "holds no JSONL file"),
        (overlapping(), "data.bomb", "unpacks to over"),
        (zipped({"rows.jsonl": ROWS, "a.png": bytes(8 * MB)}), "data.bomb", "unpacks to over"),
        (zipped({"rows.jsonl": ROWS, **{f"{n}.png": b"" for n in range(60)}}), "data.zip", "holds 61 files"),
        (zipped({"rows.jsonl": ROWS + b" " * 40 * MB, "a.png": b""}), "data.too-large", "The content is over"),
        (colour_zip()[:-30], "data.zip", "damaged, or no zip"),
        (b"PK\x03\x04", "data.zip", "damaged, or no zip"),
        (ROWS, "data.zip", "damaged, or no zip"),
    ],
)
def test_what_could_do_harm_is_refused(prepare_bytes: Prepare, out: Path, content: bytes, code: str, says: str) -> None:
    limits = Limits(max_members=50, ratio_after=MB, max_bytes=32 * MB)
    report = prepared(prepare_bytes, content, limits=limits)
    assert report.status == Status.INVALID
    assert report.error is not None
    assert (report.error["code"], says in report.error["message"]) == (code, True), report.error
    assert report.error["advice"]
    assert not {path.name for path in out.iterdir()} - {"report.json", "progress.json", "head.jsonl"}
    assert not list(out.parent.glob("*.png"))


@pytest.mark.parametrize(
    ("row", "rule", "says"),
    [
        (talk("gone.png", "red"), "image.missing", "no image 'gone.png'"),
        (talk("../../etc/passwd", "red"), "image.missing", "no image '../../etc/passwd'"),
        (talk("text.png", "red"), "image.unreadable", "'text.png' is no image"),
        (talk("drawing.svg", "red"), "image.unreadable", "'drawing.svg' is no image"),
        (talk("film.gif", "red"), "image.unreadable", "'film.gif' is no image"),
        (talk("cut.png", "red"), "image.unreadable", "'cut.png' is no image"),
        (talk("huge.png", "red"), "image.too-large", "too many pixels"),
        (talk("long.png", "red"), "image.too-large", "1 by 30,000 pixels"),
        (talk("heavy.png", "red"), "image.too-large", "at most 100.0 kB"),
        (talk("a.png", "red", "<image> or <image>?"), "images.marks", "marks 2 images with <image> and the row has 1"),
        (talk("a.png", "<image>"), "images.marks", "marks 1 images with <image> and the row has 0"),
        ({**talk("", "red"), "images": []}, "images.number", "0 images"),
        ({**talk("", "red"), "images": ["a.png"] * 17}, "images.number", "17 images"),
        ({**talk("", "red"), "images": [7]}, "images.not-names", "names no images"),
    ],
)
def test_a_row_with_a_fault_is_named_and_left_out(
    prepare_bytes: Prepare, row: dict[str, Any], rule: str, says: str
) -> None:
    noisy = b"\x89PNG" + bytes(range(256)) * 1000
    members = {
        "rows.jsonl": jsonl([*[talk("a.png", "red")] * 20, row]),
        "a.png": picture(),
        "text.png": b"not an image at all",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "film.gif": b"GIF89a" + bytes(50),
        "cut.png": picture(size=(64, 64))[:-40],
        "huge.png": png_of(90_000, 90_000),
        "long.png": png_of(1, 30_000),
        "heavy.png": noisy,
    }
    report = prepared(prepare_bytes, zipped(members), limits=Limits(max_image_bytes=100 * 1024))
    assert (report.status, report.rows_used) == (Status.READY, 20)
    (problem,) = report.problems
    assert (problem.row, problem.rule) == (21, rule)
    assert says in problem.message
    assert problem.remedy


def test_rows_that_name_images_need_them(prepare_bytes: Prepare) -> None:
    report = prepare_bytes(jsonl(colour_rows(3)), "rows.jsonl")
    assert report.error is not None
    assert report.error["code"] == "data.no-images"
    assert "Upload a zip" in report.error["advice"]


def test_large_images_get_a_small_copy_for_lists(prepare_bytes: Prepare, out: Path) -> None:
    members = {"rows.jsonl": jsonl([talk("a.png", "red"), talk("b.png", "red")]), "a.png": picture(size=(900, 300))}
    assert prepared(prepare_bytes, zipped({**members, "b.png": picture()})).error is None
    (small,) = (out / "thumbnails").iterdir()
    assert small.stem == hashlib.sha256(members["a.png"]).hexdigest()
    with Image.open(small) as image:
        assert image.size == (320, 107)
