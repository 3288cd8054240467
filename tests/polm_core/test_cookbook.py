"""Every recipe of the cookbook holds together: what its stages name exists, and comes before them."""

import pytest

from polm_core import catalogue, cookbook
from polm_core.data.convert import compatible
from polm_core.errors import ConfigError
from polm_core.recipes.recipe import Recipe

pytestmark = pytest.mark.parametrize("recipe", cookbook.RECIPES, ids=lambda recipe: recipe.slug)


def test_stages_start_from_models_or_from_what_comes_before(recipe: Recipe) -> None:
    slots = {slot.name for slot in recipe.models}
    done: set[str] = set()
    for stage in recipe.stages:
        assert stage.start in slots | done
        assert set(stage.uses.values()) <= done
        assert stage.name not in slots | done, "a name stands for one thing"
        done.add(stage.name)


def test_what_is_built_on_makes_checkpoints(recipe: Recipe) -> None:
    built_on = {name for stage in recipe.stages for name in (stage.start, *stage.uses.values())}
    for stage in recipe.stages:
        assert stage.name not in built_on or all(catalogue.get(slug).makes_checkpoints for slug in stage.methods)


def test_every_slot_serves_a_stage_and_all_methods_of_the_stages_take_its_formats(recipe: Recipe) -> None:
    formats = {slot.name: slot.formats for slot in recipe.datasets}
    assert {stage.data for stage in recipe.stages} == set(formats)
    assert {stage.start for stage in recipe.stages} >= {slot.name for slot in recipe.models}
    for stage in recipe.stages:
        for slug in stage.methods:
            taken = catalogue.get(slug).formats
            assert all(compatible(taken, format_).ok for format_ in formats[stage.data]), (stage.name, slug)


def test_the_settings_of_every_stage_are_accepted_and_reach_the_form(recipe: Recipe) -> None:
    for stage in recipe.stages:
        for slug, changed in stage.methods.items():
            method = recipe.method(stage, slug)
            config = method.default_config()
            assert config == catalogue.get(slug).parse(changed).model_dump(mode="json")
            assert method.config_schema()["properties"].keys() == config.keys()


def test_a_misspelt_recipe_is_told_what_was_meant(recipe: Recipe) -> None:
    with pytest.raises(ConfigError) as caught:
        cookbook.get(recipe.slug[:-1])
    assert recipe.slug in caught.value.fields["recipe"][0]
