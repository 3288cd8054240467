"""The search palette."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.support import factories
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User


def found(client: Client, query: str) -> str:
    answer = client.get("/search", {"q": query}, headers={"HX-Request": "true"})
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_finds_runs_datasets_checkpoints_models_methods_and_places(pages: Client, team: Team, actor: Actor) -> None:
    run = make_run(team, "zinc run")
    dataset = factories.make_version(actor, "zinc rows").dataset
    checkpoint = make_checkpoint(team, name="zinc checkpoint")
    html = found(pages, "ZINC")
    assert f'href="/runs/{run.pk}"' in html
    assert f'href="/datasets/{dataset.pk}"' in html
    assert f'href="/models/checkpoints/{checkpoint.pk}"' in html
    assert 'href="/methods/dpo"' in found(pages, "preference")
    assert 'href="/compare/"' in found(pages, "compare")


def test_without_a_query_it_offers_places_and_actions(pages: Client) -> None:
    html = found(pages, "")
    assert "Launch a run" in html
    assert 'href="/queue"' in html or 'href="/runs/queue"' in html


def test_actions_need_the_role_for_them(signed_in: Callable[[User], Client], viewer: User) -> None:
    html = found(signed_in(viewer), "")
    assert "Launch a run" not in html
    assert "Compare runs" in html


def test_it_finds_nothing_of_other_teams(pages: Client, other_team: Team, outsider: User) -> None:
    make_run(other_team, "zinc run")
    factories.make_version(Actor(outsider), "zinc rows")
    make_checkpoint(other_team, name="zinc checkpoint")
    assert "Nothing is called" in found(pages, "zinc")


def test_somebody_without_a_team_finds_methods(signed_in: Callable[[User], Client], loner: User) -> None:
    assert 'href="/methods/sft"' in found(signed_in(loner), "sft")


@pytest.mark.parametrize(
    "query", ["%", "_", "\\", "'; drop table", "<script>alert(1)</script>", "x" * 5000, "(", "\u202e"]
)
def test_any_text_is_only_text(pages: Client, team: Team, query: str) -> None:
    make_run(team, "plain")
    html = found(pages, query)
    assert "<script>" not in html
    assert "plain" not in html


def test_a_long_list_is_cut_and_costs_the_same(pages: Client, team: Team, django_assert_max_num_queries: Any) -> None:
    for number in range(20):
        make_run(team, f"zinc {number}")
    with django_assert_max_num_queries(15):
        html = found(pages, "zinc")
    assert html.count('role="option"') == 6


def test_every_hit_has_an_id_of_its_own(pages: Client, team: Team) -> None:
    make_run(team, "sft one")
    html = found(pages, "sft")
    ids = [part.split('"')[0] for part in html.split(' id="')[1:]]
    assert len(ids) == len(set(ids)) >= 2
