"""Static files that come inside Python packages: no copy of them in the repository, no CDN, no node."""

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
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
    """Read access to one file of a package under a name of ours, as `collectstatic` and ServeStatic ask for it.

    Its location is the file's own folder, wherever packages are installed: ServeStatic serves nothing from outside of
    it, and would otherwise take the working directory for a folder of static files.
    """

    prefix = PREFIX

    def __init__(self, package: str, place: str) -> None:
        self._file = str(files(package).joinpath(place))
        super().__init__(location=str(Path(self._file).parent))

    def path(self, name: str) -> str:
        return self._file


class PackageAssetsFinder(BaseFinder):
    """Finds `vendor/<name>` in the installed packages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.storages = {name: PackageStorage(*asset) for name, asset in ASSETS.items()}

    def check(self, **kwargs: Any) -> list[Any]:
        return []

    # As Django's own finders, this answers an empty list where there is nothing; their stubs say None.
    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> list[str] | str:  # type: ignore[override]
        name = path.removeprefix(f"{PREFIX}/")
        if name == path or name not in self.storages:
            return []
        found = self.storages[name].path(name)
        return [found] if find_all else found

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterator[tuple[str, Storage]]:
        for name, storage in self.storages.items():
            if not matches_patterns(name, ignore_patterns or []):
                yield name, storage
