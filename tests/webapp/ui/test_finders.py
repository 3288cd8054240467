"""Static files out of Python packages."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client

from webapp.ui.finders import ASSETS, PackageAssetsFinder


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_is_found_under_its_own_name(name: str) -> None:
    path = finders.find(f"vendor/{name}")
    assert isinstance(path, str)
    assert Path(path).stat().st_size > 10_000
    assert finders.find(f"vendor/{name}", find_all=True) == [path]


@pytest.mark.parametrize("name", ["vendor/other.js", "plotly.min.js", "vendor/../plotly.min.js", "vendor/", ""])
def test_nothing_else_is(name: str) -> None:
    assert not PackageAssetsFinder().find(name)


@pytest.mark.parametrize("name", ["vendor/plotly.min.js", "vendor/htmx.min.js", "css/app.css", "js/app.js"])
def test_the_server_serves_it_from_the_sources(client: Client, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.status_code == 200
    assert int(answer["Content-Length"]) > 1_000


@pytest.mark.parametrize("name", ["manage.py", "webapp/settings.py", "README.md"])
def test_no_other_file_is_served_even_while_developing(settings: Any, name: str) -> None:
    settings.SERVESTATIC_AUTOREFRESH = True
    assert Client().get(f"/static/{name}").status_code == 404


def test_an_image_collects_them(tmp_path: Path, settings: Any) -> None:
    settings.STATIC_ROOT = str(tmp_path)
    call_command("collectstatic", interactive=False, verbosity=0, ignore_patterns=["*.map"])
    for name in ASSETS:
        assert (tmp_path / "vendor" / name).stat().st_size > 10_000
    assert (tmp_path / "css" / "app.css").exists()


def test_templates_name_only_files_that_exist(settings: Any) -> None:
    named = set()
    for template in (settings.BASE_DIR / "templates").rglob("*.html"):
        named |= set(re.findall(r"{% static '([^']+)' %}", template.read_text()))
    assert named
    assert [name for name in sorted(named) if not finders.find(name)] == []
