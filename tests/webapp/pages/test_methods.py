"""The map of methods and the page of each."""

import html
import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from polm_core import catalogue
from polm_core.docs import symbols
from polm_core.formats import SPECS
from polm_core.method import PARADIGMS, Method
from polm_core.settings import setting_specs
from webapp.pages.methods import paradigms
from webapp.pages.proofs import proof_of


def test_the_map_has_every_paradigm_branch_and_method_once() -> None:
    entries = paradigms()
    assert [entry.slug for entry in entries] == list(PARADIGMS)
    assert sum(len(entry.branches) for entry in entries) == len(catalogue.TAXONOMY)
    shown = [method.slug for entry in entries for method in entry.methods]
    assert sorted(shown) == sorted(method.slug for method in catalogue.METHODS)


def test_the_map_is_one_page_without_a_query_for_each_method(pages: Client, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(10):
        answer = pages.get("/methods/")
    page = html.unescape(answer.content.decode())
    for branch in catalogue.TAXONOMY:
        assert branch.title in page
    for method in catalogue.METHODS:
        assert f'href="/methods/{method.slug}"' in page


@pytest.mark.parametrize("method", catalogue.METHODS, ids=lambda method: method.slug)
def test_a_method_s_page_tells_what_when_data_settings_charts_and_paper(pages: Client, method: Method) -> None:
    answer = pages.get(f"/methods/{method.slug}")
    assert answer.status_code == 200
    page = html.unescape(answer.content.decode())
    said = [method.title, method.summary, method.when, method.paper.title, method.paper.url, method.formula]
    said += [text for part in (method.objective, *method.watch) for text in part.split("`")]
    said += [meaning for _, meaning in symbols(method.formula)]
    said += [SPECS[format_].summary for format_ in method.formats]
    said += [kind for format_ in method.formats for kind in SPECS[format_].columns.values()]
    said += [text for chart in method.charts for text in (chart.title, chart.reading, *chart.keys)]
    said += [chart.unit for chart in method.charts]
    for text in said:
        assert text in page
    shown = "".join(page.split())
    for setting in setting_specs(method):
        assert f">{setting.path}<" in page
        for text in (setting.default_text, setting.unit, setting.allowed, setting.source):
            assert "".join(text.split()) in shown, setting.path
    assert f"/runs/new?method={method.slug}" in page


def test_a_method_s_page_shows_what_was_measured(pages: Client, settings: Any, tmp_path: Path) -> None:
    entry = {
        "name": "dpo", "metric": "eval/rewards/margins", "unit": "reward margin", "before": 0.0, "after": 0.4321,
        "bar": "at least 0.2 more", "ok": True, "model": "a model of the test", "rows": 240, "held_out_rows": 60,
        "steps": 40, "seeds": [1, 2], "seconds": 83.0,
    }  # fmt: skip
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "proof.json").write_text(json.dumps([entry]))
    settings.BASE_DIR = tmp_path
    page = pages.get("/methods/dpo").content.decode()
    for text in ("0.4321", "eval/rewards/margins", "a model of the test", "at least 0.2 more: it was"):
        assert text in page
    assert "Not measured yet" not in page
    unmeasured = pages.get("/methods/sft").content.decode()
    assert "Not measured yet" in unmeasured
    assert "make proof METHOD=sft" in unmeasured


def test_the_table_that_comes_with_the_product_can_be_read() -> None:
    measured = [proof for method in catalogue.METHODS if (proof := proof_of(method.slug)) is not None]
    assert measured
    assert all(proof.seeds >= 2 for proof in measured)


def test_an_unknown_method_names_near_ones(pages: Client) -> None:
    answer = pages.get("/methods/sfd")
    assert answer.status_code == 404
    assert "sft" in answer.content.decode()
