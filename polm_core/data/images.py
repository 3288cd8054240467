"""Images of rows: where they stand in what is said, and what a file has to be to count as one."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polm_core.data.messages import Message
from polm_core.data.problems import RowProblem

IMAGE_MARK = "<image>"
"""Where an image stands within the text of a turn."""

IMAGES_FOLDER = "images"
"""The folder beside `rows.jsonl` that preparation leaves images in, each called after its own content."""

THUMBNAILS_FOLDER = "thumbnails"
"""The folder with small copies of those that are too large to be shown in a list."""

IMAGE_NAME = re.compile(r"[0-9a-f]{64}\.(png|jpg|webp)")
"""What images are called once they are kept."""

CONTENT_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
"""What they are served as, by how their names end."""

SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""The kinds of images that are read, by pillow's names, and how their files end."""

THUMBNAIL_SIDE = 320
MAX_PIXELS = 40_000_000
MAX_SIDE = 20_000
MAX_IMAGES = 16
"""Most images of one row."""


def in_parts(prompt: Sequence[Message], images: int) -> list[Message]:
    """The turns of a prompt with the places of its images among the text, as processors of vision models take them.

    Images stand where the text marks them, and without marks before the text of the first turn of the user. Raises
    `RowProblem` where there are not as many marks as images, or no turn for them.
    """
    marks = sum(str(message.get("content") or "").count(IMAGE_MARK) for message in prompt)
    if marks not in (0, images):
        raise RowProblem(
            "images.marks",
            f"The text marks {marks} images with {IMAGE_MARK} and the row has {images}.",
            f"Write {IMAGE_MARK} once for each image of a question, or leave the marks out: the images then go first.",
        )
    left = [{"type": "image"}] * images
    turns: list[Message] = []
    for message in prompt:
        parts: list[dict[str, Any]] = []
        if not marks and message["role"] == "user":
            parts, left = left, []
        for place, piece in enumerate(str(message.get("content") or "").split(IMAGE_MARK)):
            if place:
                parts.append(left.pop())
            if text := piece.strip("\n") if marks else piece:
                parts.append({"type": "text", "text": text})
        turns.append({**message, "content": parts})
    if left:
        raise RowProblem(
            "images.no-user",
            "The prompt has no turn of the user, where its images would go.",
            f"Add a turn of the user, or mark the images with {IMAGE_MARK}.",
        )
    return turns


def open_image(path: Path) -> Any:
    """The image in a file, in RGB. Raises `RowProblem` for what is no PNG, JPEG or WebP of a usable size."""
    from PIL import Image

    with reading_image(path.name), Image.open(path, formats=tuple(SUFFIXES)) as image:
        check_size(image.size, path.name)
        return image.convert("RGB")


def size_of_image(path: Path) -> tuple[int, int]:
    """Width and height of the image in a file, from its first bytes. Raises what `open_image` does."""
    from PIL import Image

    with reading_image(path.name), Image.open(path, formats=tuple(SUFFIXES)) as image:
        check_size(image.size, path.name)
        return int(image.size[0]), int(image.size[1])


@contextmanager
def reading_image(name: str) -> Iterator[None]:
    """Tell of a file that is no image, whatever its reader raises for it."""
    from PIL import Image

    try:
        yield
    except RowProblem:
        raise
    # Each kind of image has a reader of its own that raises what it likes for a broken file.
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, EOFError) as error:
        raise unreadable_image(name) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, "too many pixels") from error


def check_size(size: tuple[int, int], name: str) -> None:
    """Raise `RowProblem` for an image that would take too much memory once it is decoded."""
    width, height = size
    if width * height > MAX_PIXELS or max(size) > MAX_SIDE:
        raise _too_large(name, f"{width:,} by {height:,} pixels")


def _too_large(name: str, has: str) -> RowProblem:
    return RowProblem(
        "image.too-large",
        f"The image '{name[:200]}' has {has}; at most {MAX_PIXELS // 1_000_000} million are read.",
        "Scale it down.",
    )


def unreadable_image(name: str) -> RowProblem:
    """What is said of a file that is broken, or no image at all."""
    return RowProblem(
        "image.unreadable",
        f"'{name[:200]}' is no image that can be read.",
        "Save it as PNG, JPEG or WebP; the content counts, not the name.",
    )
