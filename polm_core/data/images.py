"""Images of rows: where they stand in what is said, and what a file has to be to count as one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polm_core.data.messages import Message
from polm_core.errors import DataError

IMAGE_MARK = "<image>"
"""Where an image stands within the text of a turn."""

IMAGES_FOLDER = "images"
"""The folder beside `rows.jsonl` that holds the images of its rows, each called after its own content."""

SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""The kinds of images that are read, by pillow's names, and how their files end."""

CONTENT_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}

MAX_PIXELS = 40_000_000
"""The largest image that is read, in pixels."""


def check_marks(prompt: Sequence[Message], images: int) -> None:
    """Raise `DataError` where a prompt marks the places of some of its images, and not of just as many as it has."""
    marks = sum(str(message.get("content") or "").count(IMAGE_MARK) for message in prompt)
    if marks not in (0, images):
        raise DataError(
            f"The text marks {marks} images with {IMAGE_MARK} and the row has {images}.",
            code="data.image-marks",
            advice=f"Write {IMAGE_MARK} once for each image, or leave the marks out: the images then go first.",
        )


def in_parts(prompt: Sequence[Message], images: int) -> list[Message]:
    """The turns of a prompt with the places of its images among the text, as processors of vision models take them.

    Images stand where the text marks them, and without marks before the text of the first turn of the user. Raises
    `DataError` as `check_marks` does.
    """
    check_marks(prompt, images)
    left = [{"type": "image"}] * images
    marked = any(IMAGE_MARK in str(message.get("content") or "") for message in prompt)
    turns: list[Message] = []
    for message in prompt:
        pieces = str(message.get("content") or "").split(IMAGE_MARK)
        parts: list[dict[str, Any]] = []
        if not marked and message["role"] == "user":
            parts, left = left, []
        for place, piece in enumerate(pieces):
            if place:
                parts.append(left.pop(0))
            if text := piece.strip("\n") if marked else piece:
                parts.append({"type": "text", "text": text})
        turns.append({**message, "content": parts})
    if left:
        raise DataError(
            "The prompt has no turn of the user, where its images would go.",
            code="data.image-marks",
            advice=f"Add a turn of the user, or mark the images with {IMAGE_MARK}.",
        )
    return turns


def open_image(path: Path) -> Any:
    """The image in a file, in RGB. Raises `DataError` for what is no PNG, JPEG or WebP of a usable size."""
    from PIL import Image

    try:
        with Image.open(path, formats=tuple(SUFFIXES)) as image:
            _check_size(image, path.name)
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise no_image(path.name, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the image in a file, from its first bytes. Raises what `open_image` does."""
    from PIL import Image

    try:
        with Image.open(path, formats=tuple(SUFFIXES)) as image:
            _check_size(image, path.name)
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise no_image(path.name, error) from error


def _check_size(image: Any, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise too_many_pixels(name, width, height)


def too_many_pixels(name: str, width: int, height: int) -> DataError:
    return DataError(
        f"The image '{name[:200]}' has {width:,} by {height:,} pixels; at most {MAX_PIXELS // 1_000_000} million are read.",
        code="data.image",
        advice="Scale it down.",
    )


def no_image(name: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(
            f"There is no image '{name[:200]}'.", code="data.image", advice="Put it beside the rows that name it."
        )
    return DataError(
        f"'{name[:200]}' is no image that can be read.",
        code="data.image",
        advice="Save it as PNG, JPEG or WebP; the content counts, not the name.",
    )
