"""Prepared rows in the artifact store, and the images that they name."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from polm_core.data.images import IMAGES_FOLDER, THUMBNAILS_FOLDER
from polm_core.data.rows import INDEX_NAME, ROWS_NAME
from polm_core.run_dir import sha256_of
from webapp import artifacts

AT_ONCE = 16


def rows_store(out: Path, rows_key: str, sha256: str) -> None:
    """Copy what preparation left in `out` into the store; `sha256` is that of the rows.

    Images lie in a folder of their own, as only those who train need them all.
    """
    artifacts.put_verified(out / ROWS_NAME, f"{rows_key}/{ROWS_NAME}", sha256)
    artifacts.put_verified(out / INDEX_NAME, f"{rows_key}/{INDEX_NAME}", sha256_of(out / INDEX_NAME))
    images, thumbnails = (sorted((out / folder).glob("*")) for folder in (IMAGES_FOLDER, THUMBNAILS_FOLDER))
    # A bucket takes as long for a small file as for a large one: several are under way at a time.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # An image is called after its content.
        sent = [
            pool.submit(artifacts.put_verified, one, f"{images_key(rows_key)}/{one.name}", one.stem) for one in images
        ]
        sent += [pool.submit(artifacts.put, one, f"{thumbnails_key(rows_key)}/{one.name}") for one in thumbnails]
        for one in sent:
            one.result()


def rows_discard(rows_key: str) -> None:
    """Remove rows with their images; what is not there is no error."""
    for key in (rows_key, images_key(rows_key), thumbnails_key(rows_key)):
        artifacts.delete(key)


def images_key(rows_key: str) -> str:
    """The folder of the store with the images of rows."""
    return f"{rows_key}-{IMAGES_FOLDER}"


def thumbnails_key(rows_key: str) -> str:
    """The folder of the store with small copies of the large ones among the images of rows."""
    return f"{rows_key}-{THUMBNAILS_FOLDER}"
