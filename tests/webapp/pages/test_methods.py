"""The map of methods and the page of each."""

import html
from typing import Any

import pytest
from django.test import Client

from polm_core import catalogue
from polm_core.formats import SPECS
from polm_core.method import PARADIGMS, Method
from webapp.pages.methods import paradigms


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
    said = [method.title, method.summary, method.when, method.paper.title, method.paper.url]
    said += [SPECS[format_].summary for format_ in method.formats]
    said += [text for chart in method.charts for text in (chart.title, chart.how_to_read, *chart.keys)]
    for text in said:
        assert text in page
    for path in method.config_schema()["properties"]:
        assert f">{path}" in page
    assert f"/runs/new?method={method.slug}" in page


def test_an_unknown_method_names_near_ones(pages: Client) -> None:
    answer = pages.get("/methods/sfd")
    assert answer.status_code == 404
    assert "sft" in answer.content.decode()
