"""Every icon that a template names is in the icon set."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from webapp.ui.templatetags.studio import icon

TEMPLATES = Path(settings.BASE_DIR) / "templates"
NAMES = sorted(
    {
        name
        for path in TEMPLATES.rglob("*.html")
        for name in re.findall(r'{% (?:icon|empty_state) "([^"]+)"', path.read_text())
    }
)


@pytest.mark.parametrize("name", NAMES)
def test_the_icon_exists(name: str) -> None:
    assert icon(name).startswith("<svg")
