"""A version's rows as one file, which is what `python -m polm_core run` reads, and the images that they name."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from polm_core.data.images import CONTENT_TYPES, IMAGE_NAME
from polm_core.data.rows import ROWS_NAME
from webapp import artifacts
from webapp.datasets.models import DatasetVersion
from webapp.datasets.storing import images_key, thumbnails_key
from webapp.errors import NotFound
from webapp.streaming import file_response


def rows_response(request: HttpRequest, version: DatasetVersion) -> HttpResponseBase:
    """The answer to GET and HEAD for the rows of a ready version. Raises NotFound when they are gone."""
    key = f"{version.rows_key}/{ROWS_NAME}"
    return file_response(
        request,
        artifacts.chunks(key),
        name=version.rows_filename,
        size=artifacts.size(key),
        content_type="application/jsonl",
    )


def image_response(request: HttpRequest, version: DatasetVersion, name: str, *, small: bool) -> HttpResponseBase:
    """The answer to GET and HEAD for an image of a ready version, or for its small copy where it has one.

    Raises NotFound when the version has no such image.
    """
    if not IMAGE_NAME.fullmatch(name):
        raise NotFound("There is no such image.")
    digest, _, kind = name.partition(".")
    thumbnail = f"{thumbnails_key(version.rows_key)}/{digest}.webp"
    is_small = small and artifacts.exists(thumbnail)
    key = thumbnail if is_small else f"{images_key(version.rows_key)}/{name}"
    response = file_response(
        request,
        artifacts.chunks(key),
        name=name,
        size=artifacts.size(key),
        content_type=CONTENT_TYPES["webp" if is_small else kind],
    )
    # Called after its content, it never changes; it is still for those alone who may see the dataset.
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response
