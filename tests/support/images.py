"""Small images, rows about them, and zips of both."""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 80, 220)}


def picture(colour: str = "red", *, size: tuple[int, int] = (16, 16), kind: str = "PNG") -> bytes:
    """An image of one colour, encoded."""
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(buffer, format=kind)
    return buffer.getvalue()


def talk(image: str, answer: str, question: str = "Which colour?") -> dict[str, Any]:
    """A canonical row."""
    return {
        "images": [image],
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def colour_rows(count: int) -> list[dict[str, Any]]:
    """Rows about pictures of three colours, which `write_pictures` makes."""
    names = list(COLOURS)
    return [
        talk(f"images/{names[index % 3]}.png", names[index % 3], f"{index}: which colour?") for index in range(count)
    ]


def write_pictures(folder: Path) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for colour in COLOURS:
        (folder / "images" / f"{colour}.png").write_bytes(picture(colour))


def jsonl(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def colour_zip(count: int = 12) -> bytes:
    """Rows about three pictures, with them."""
    pictures = {f"images/{colour}.png": picture(colour) for colour in COLOURS}
    return zipped({"rows.jsonl": jsonl(colour_rows(count)), **pictures})
