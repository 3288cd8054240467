"""A model's variants: what stands on the page, what it is compared by, and who sees it."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.support.checkpoints import make_checkpoint
from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.registry.models import BaseModel, Checkpoint
from webapp.runs.models import Run, RunCheckpoint

BEFORE = {"eval/loss": 2.0, "size/bytes": 269e6, "size/memory": 538e6, "speed/tokens_per_second": 20.0}
AFTER = {"eval/loss": 2.01, "size/bytes": 171e6, "size/memory": 221e6, "speed/tokens_per_second": 12.0}


def variant(team: Team, run: Run, *, step: int = 1, **metrics: float) -> Checkpoint:
    """A checkpoint of a run, with these metrics in place of its own."""
    kind = "model" if "size/bytes" in metrics else "adapter"
    checkpoint = make_checkpoint(team, f"{run.name} @ {step}", step=step, base_model=run.model, kind=kind)
    checkpoint.metrics = metrics
    checkpoint.method = run.method
    checkpoint.save()
    RunCheckpoint.objects.create(run=run, checkpoint=checkpoint, step=step)
    return checkpoint


@pytest.fixture
def model(team: Team) -> BaseModel:
    """A model that was quantised, tuned with an adapter that was saved twice, and trained without a held-out loss."""
    small = make_run(team, "small", method="quantize")
    writer = MetricWriter(small.pk)
    writer.append([MetricLine(0, 1_790_000_000.0, BEFORE), MetricLine(1, 1_790_000_001.0, AFTER)])
    variant(team, small, **AFTER)
    tuned = make_run(team, "tuned", method="sft")
    variant(team, tuned, step=10, **{"eval/loss": 1.5})
    variant(team, tuned, step=20, **{"eval/loss": 1.25})
    unknown = make_run(team, "unknown", method="grpo")
    variant(team, unknown, reward=0.5)
    return small.model


def shown(pages: Client, model: BaseModel, **query: Any) -> str:
    return str(pages.get(reverse("frontier", args=[model.pk]), query).content.decode())


def test_variants_stand_by_loss_beside_the_model_itself(pages: Client, model: BaseModel) -> None:
    page = shown(pages, model)
    rows = [row.split("</a>")[0].rpartition(">")[2].strip() for row in page.split('<th scope="row"')[1:]]
    assert rows == ["tuned @ 20", model.name, "small @ 1"]
    for told in ("538 MB", "221 MB", "12 tokens/s", "the model itself", "Size on disk", "Memory", "Writing"):
        assert told in page
    assert page.count('r="6"/></a>') == 3 + 2 + 2, "only what was measured is drawn"
    assert f'href="{reverse("frontier", args=[model.pk])}"' in pages.get(f"/models/{model.pk}").content.decode()


def test_only_what_was_measured_on_the_same_rows_is_compared(pages: Client, team: Team, model: BaseModel) -> None:
    dataset = Dataset.objects.create(team=team, name="others")
    version = DatasetVersion.objects.create(dataset=dataset, status=VersionStatus.READY, filename="others.jsonl")
    other = make_run(team, "other rows", method="sft", dataset_version=version)
    variant(team, other, **{"eval/loss": 0.1})
    assert "other rows @ 1" not in shown(pages, model)
    page = shown(pages, model, rows=version.pk)
    assert "other rows @ 1" in page
    assert "small @ 1" not in page


def test_a_model_without_variants_says_what_to_do(pages: Client, team: Team) -> None:
    page = shown(pages, make_run(team, "begun").model)
    assert "Nothing to compare yet" in page
    assert '<svg class="frontier"' not in page


def test_many_variants_take_no_more_queries(
    pages: Client, team: Team, model: BaseModel, django_assert_max_num_queries: Any
) -> None:
    for number in range(5):
        run = make_run(team, f"more {number}", method="sft")
        variant(team, run, **{"eval/loss": 2.0 + number})
    with django_assert_max_num_queries(24):
        assert "more 4 @ 1" in shown(pages, model)
