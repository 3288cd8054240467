"""Every recipe the studio offers, as one explicit table."""

from polm_core.errors import ConfigError
from polm_core.method import near
from polm_core.recipes import deepseek_r1, instructgpt, o1
from polm_core.recipes.recipe import Recipe

RECIPES: tuple[Recipe, ...] = (instructgpt.RECIPE, deepseek_r1.RECIPE, o1.RECIPE)

_BY_SLUG = {recipe.slug: recipe for recipe in RECIPES}


def get(slug: str) -> Recipe:
    """The recipe called `slug`. Raises `ConfigError` naming near matches when there is none."""
    try:
        return _BY_SLUG[slug]
    except KeyError:
        problem = f"is not a recipe of the cookbook.{near(slug, list(_BY_SLUG))}"
        raise ConfigError(f"{slug!r} {problem}", code="config.recipe", fields={"recipe": [problem]}) from None
