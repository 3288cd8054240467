"""The Launch page and the run's page of a merge: further models, their weights, and no dataset."""

import pytest
import yaml
from django.test import Client

from tests.support.checkpoints import make_checkpoint
from tests.support.runs import make_run
from tests.webapp.pages.runs.conftest import text
from tests.webapp.pages.runs.test_launch import is_enabled, launch, options, post, reason
from webapp.accounts.models import Team
from webapp.datasets.models import DatasetVersion
from webapp.registry.models import Checkpoint
from webapp.runs.models import MergeModel, Run


@pytest.fixture
def parents(team: Team) -> list[Checkpoint]:
    return [make_checkpoint(team, f"skill-{n}", kind="model") for n in range(3)]


@pytest.fixture
def choice(parents: list[Checkpoint], conversations: DatasetVersion) -> dict[str, str]:
    """A merge without further models; the dataset was chosen for another method before."""
    kept = {"dataset": str(conversations.dataset_id)}
    return {"method": "merge", "settings_of": "merge", "model": str(parents[0].pk), **kept}


def settings_of(shown: str) -> dict[str, object]:
    """The config in the file that the page shows."""
    _, _, rest = shown.partition('id="launch-yaml"')
    found = yaml.safe_load(rest.partition(">")[2].partition("</pre>")[0].replace("&#x27;", "'"))
    assert isinstance(found, dict)
    return found


def test_models_are_chosen_one_after_the_other(
    pages: Client, choice: dict[str, str], parents: list[Checkpoint]
) -> None:
    shown = post(pages, choice)
    assert reason(shown) == "Choose a model to merge with."
    assert 'select id="dataset"' not in shown
    assert f'name="dataset" value="{choice["dataset"]}"' in shown
    assert 'select id="eval_dataset"' not in shown
    assert str(parents[1].pk) in " ".join(options(shown, "merge-1"))
    assert str(parents[0].pk) not in " ".join(options(shown, "merge-1"))
    shown = post(pages, choice, **{"merge_models.1": str(parents[1].pk)})
    assert is_enabled(shown)
    assert 'id="merge-2"' in shown
    assert shown.count('type="range"') == 2
    assert settings_of(shown) == {
        "method": "merge",
        "model": {"path": "./skill-0"},
        "merge_models": [{"path": "./skill-1"}],
    }


def test_weights_are_one_setting_in_the_models_order(
    pages: Client, choice: dict[str, str], parents: list[Checkpoint]
) -> None:
    # The second place was emptied: the third moves up, with its weight.
    chosen = choice | {"merge_models.1": "", "merge_models.2": str(parents[1].pk), "merge_models.3": str(parents[2].pk)}
    chosen |= {"weight.0": "0.5", "weight.2": "1", "weight.3": "0.25"}
    shown = post(pages, chosen)
    assert settings_of(shown)["config"] == {"weights": [0.5, 1, 0.25]}
    assert 'name="weight.2" value="0.25"' in shown
    based = post(pages, chosen | {"config.merge_method": "ties"})
    assert settings_of(based)["config"] == {"merge_method": "ties", "weights": [1, 0.25]}
    assert based.count('type="range"') == 2
    assert '<span class="tag">base</span>' in based
    unweighted = post(pages, chosen | {"config.merge_method": "model_stock"})
    assert settings_of(unweighted)["config"] == {"merge_method": "model_stock"}
    assert 'type="range"' not in unweighted


@pytest.mark.parametrize(
    ("weights", "said"),
    [({"weight.0": "1", "weight.1": "-1"}, "must not add up to 0"), ({"weight.0": "much"}, "a number")],
)
def test_weights_that_make_no_merge_are_said_beside_them(
    pages: Client, choice: dict[str, str], parents: list[Checkpoint], weights: dict[str, str], said: str
) -> None:
    answer = launch(pages, choice | {"merge_models.1": str(parents[1].pk)} | weights)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not Run.objects.exists()


def test_a_merge_is_launched_shown_and_cloned(pages: Client, choice: dict[str, str], parents: list[Checkpoint]) -> None:
    chosen = choice | {"merge_models.1": str(parents[1].pk), "weight.0": "1", "weight.1": "0.5"}
    assert launch(pages, chosen).status_code == 302
    run = Run.objects.get()
    assert run.dataset_version is None
    assert run.config["weights"] == [1, 0.5]
    shown = text(pages.get(f"/runs/{run.pk}"))
    link = f'<a href="/models/checkpoints/{parents[1].pk}">skill-1</a>'
    assert shown.count(f"<dt>Merged with</dt><dd>{link}") == 2
    assert "<dt>Dataset</dt>" not in shown
    assert "<dt>Held out</dt>" not in shown
    clone = text(pages.get(f"/runs/new?clone={run.pk}"))
    assert f'<option value="{parents[1].pk}" selected>' in clone
    assert 'name="weight.1" value="0.5"' in clone
    listed = text(pages.get("/runs/"))
    assert run.name in listed
    assert run.name in text(pages.get("/runs/?q=not+dataset:x"))
    shown_elsewhere = ("/", "/runs/words", "/runs/queue", f"/compare/?run={run.pk}", "/methods/", "/methods/merge")
    for page in shown_elsewhere:
        assert pages.get(page).status_code == 200, page


def test_another_method_remembers_the_choice(pages: Client, choice: dict[str, str], parents: list[Checkpoint]) -> None:
    chosen = choice | {"merge_models.1": str(parents[1].pk), "weight.1": "0.5", "method": "sft"}
    shown = post(pages, chosen)
    assert 'select id="dataset"' in shown
    assert 'id="merge-1"' not in shown
    assert f'name="merge_models.1" value="{parents[1].pk}"' in shown
    assert 'name="weight.1" value="0.5"' in shown


def test_a_checkpoint_of_a_merge_names_its_parents(pages: Client, team: Team, parents: list[Checkpoint]) -> None:
    made, child = make_run(team, "merged", method="merge"), make_checkpoint(team, "merged @ 21", parent=parents[0])
    from webapp.registry.models import BaseModel
    from webapp.runs.models import RunCheckpoint

    other = BaseModel.objects.create(team=team, name="other", source="checkpoint", checkpoint=parents[1])
    MergeModel.objects.create(run=made, model=other, place=1)
    RunCheckpoint.objects.create(run=made, step=21, checkpoint=child)
    shown = text(pages.get(f"/models/checkpoints/{child.pk}"))
    assert f'<dt>Merged with</dt><dd><a href="/models/checkpoints/{parents[1].pk}">' in shown
    assert f'<a href="/models/checkpoints/{child.pk}">merged @ 21</a>' in text(
        pages.get(f"/models/checkpoints/{parents[1].pk}")
    )
