"""A version's rows as one file: what `python -m polm_core run` reads."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from polm_core.data.rows import ROWS_NAME
from webapp import artifacts
from webapp.datasets.models import DatasetVersion
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
