"""The methods' pages: made from the code, up to date, and nothing in them leads nowhere."""

import re
from pathlib import Path

import pytest

from polm_core import docs
from polm_core.__main__ import main
from polm_core.catalogue import METHODS, TAXONOMY, get
from polm_core.method import Method
from polm_core.settings import setting_specs

FOLDER = Path(__file__).resolve().parents[2] / docs.FOLDER
PAGES = docs.pages()


def test_the_pages_are_those_that_the_code_makes() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    differing = [name for name in {*there, *PAGES} if there.get(name) != PAGES.get(name)]
    assert not differing, f"run `python -m polm_core docs`: {', '.join(sorted(differing))}"


def test_every_method_is_in_the_index_under_its_branch() -> None:
    index = PAGES[docs.INDEX]
    for branch in TAXONOMY:
        found = [method for method in METHODS if method.branch == branch.title]
        assert (f"### {branch.title}\n" in index) == bool(found)
    listed = re.findall(r"^- \[.*\]\((.+)\.md\)", index, re.MULTILINE)
    assert listed == [method.slug for branch in TAXONOMY for method in METHODS if method.branch == branch.title]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.slug)
def test_each_setting_is_on_the_method_s_page_or_on_the_shared_one(method: Method) -> None:
    page, shared = PAGES[f"{method.slug}.md"], PAGES[docs.SHARED]
    for setting in setting_specs(method):
        lines = [line for line in page.splitlines() if line.startswith(f"| `{setting.path}` |")]
        lines += [line for line in shared.splitlines() if line.startswith(f"| `{setting.path}` |")]
        assert lines, setting.path
        assert f"| `{' '.join(setting.default_text.split())}`" in lines[0] or (
            not setting.default_text and "| empty" in lines[0]
        )


@pytest.mark.parametrize("name", sorted(PAGES))
def test_links_within_the_docs_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https)([^)]+)\)", PAGES[name]):
        path, _, anchor = target.partition("#")
        assert path in PAGES or (FOLDER / path).is_file(), target
        titles = {line.lstrip("# ").lower().replace(" ", "-") for line in PAGES.get(path, "").splitlines()}
        assert not anchor or anchor in titles, target


def test_what_a_formula_is_written_with_is_told() -> None:
    symbols = dict(docs.symbols(get("dpo").formula))
    assert list(symbols) == ["π", "π_ref", "σ", "x", "y_w", "y_l"]
    assert docs.symbols("max(0, 1 - beta)") == []


def test_the_command_writes_what_differs_and_removes_what_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["docs", str(tmp_path)]) == 0
    assert "dpo.md" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == set(PAGES)
    (tmp_path / "dpo.md").write_text("old")
    (tmp_path / "gone.md").write_text(docs.MARK)
    (tmp_path / "notes.md").write_text("mine")
    assert docs.write_pages(tmp_path) == ["dpo.md", "gone.md"]
    assert (tmp_path / "dpo.md").read_text() == docs.method_page(get("dpo"))
    assert not (tmp_path / "gone.md").exists()
    assert (tmp_path / "notes.md").exists()
    assert main(["docs", str(tmp_path)]) == 0
    assert "is up to date" in capsys.readouterr().out
