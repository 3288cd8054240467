"""Static files that come inside Python packages: no copy of them in the repository, no CDN, no node."""

from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any

from django.contrib.staticfiles.finders import BaseFinder
from django.contrib.staticfiles.utils import matches_patterns
from django.core.files.storage import FileSystemStorage, Storage

PREFIX = "vendor"
# Name under `vendor/` -> the package and the file in it.
ASSETS = {
    "plotly.min.js": ("plotly", "package_data/plotly.min.js"),
    "htmx.min.js": ("django_htmx", "static/django_htmx/htmx-2.min.js"),
}


class PackageStorage(FileSystemStorage):
    """Read access to `ASSETS` under their own names, as `collectstatic` and ServeStatic ask for them."""

    prefix = PREFIX

    def path(self, name: str) -> str:
        package, place = ASSETS[name]
        return str(files(package).joinpath(place))


class PackageAssetsFinder(BaseFinder):
    """Finds `vendor/<name>` in the installed packages."""

    storage = PackageStorage()

    def check(self, **kwargs: Any) -> list[Any]:
        return []

    # As Django's own finders, this answers an empty list where there is nothing; their stubs say None.
    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> list[str] | str:  # type: ignore[override]
        name = path.removeprefix(f"{PREFIX}/")
        if name == path or name not in ASSETS:
            return []
        found = self.storage.path(name)
        return [found] if find_all else found

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterator[tuple[str, Storage]]:
        for name in ASSETS:
            if not matches_patterns(name, ignore_patterns or []):
                yield name, self.storage
