"""What a sweep may vary: each fault is named with its setting, and grids come in one order."""

from typing import Any

import pytest

from polm_core import catalogue
from webapp.errors import Invalid
from webapp.sweeps.space import Space, space_checked, space_read

SFT = catalogue.get("sft")
BASE = SFT.parse({"adapter": {"type": "lora"}}).model_dump(mode="json")
PLAIN = SFT.parse({"adapter": {"type": "none"}}).model_dump(mode="json")


def _checked(space: object, *, whole: bool = False, base: dict[str, Any] = BASE) -> Space:
    return space_checked(space_read(space), SFT, base, whole=whole)


@pytest.mark.parametrize(
    ("space", "field", "said"),
    [
        ({}, "space", "must name 1 to 20 settings"),
        ([], "space", "must name 1 to 20 settings"),
        ({"learning_rate": []}, "space.learning_rate", "must have 1 to 100 values"),
        ({"learning_rate": 0.1}, "space.learning_rate", "must be a list of values, or a range"),
        ({"learning_rate": [0.1, 0.1]}, "space.learning_rate", "must not name 0.1 twice"),
        ({"batch_size": [4, "4"]}, "space.batch_size", "must not name 4 twice"),
        ({"seed": list(range(101))}, "space.seed", "must have 1 to 100 values"),
        ({"learning_rate": {"min": 0.1}}, "space.learning_rate", "max must be given"),
        ({"learning_rate": {"min": 0.1, "max": "x"}}, "space.learning_rate", "max must be a finite number, not 'x'"),
        ({"learning_rate": {"min": 0.1, "max": 0.01}}, "space.learning_rate", "must end above its beginning, 0.1"),
        ({"warmup_ratio": {"min": 0, "max": 0.1, "log": True}}, "space.warmup_ratio", "must begin above 0"),
        ({"learning_rate": {"min": 0.1, "max": 0.2, "step": 0}}, "space.learning_rate", "step must be above 0"),
        ({"learning_rate": {"min": 0.1, "max": 0.2, "step": 1}}, "space.learning_rate", "a step of at most 0.1"),
        (
            {"batch_size": {"min": 1, "max": 8, "step": 1, "log": True}},
            "space.batch_size",
            "takes a step or a logarithmic scale, not both",
        ),
        (
            {"learning_rate": {"min": 0.1, "max": float("inf")}},
            "space.learning_rate",
            "max must be a finite number, not inf",
        ),
        ({"learning_rate": {"min": 0.1, "max": 0.2, "lgo": True}}, "space.learning_rate", "lgo is no part of a range"),
        ({"learning_rat": [0.1]}, "space.learning_rat", "Did you mean learning_rate or"),
        ({"lr_scheduler": {"min": 1, "max": 2}}, "space.lr_scheduler", "is not a number: give a list of values"),
        ({"batch_size": {"min": 1, "max": 2.5}}, "space.batch_size", "takes whole numbers"),
        ({"learning_rate": [0.1, 2]}, "space.learning_rate", "must be at most 1, not 2"),
        ({"learning_rate": {"min": 0.1, "max": 2}}, "space.learning_rate", "must be at most 1, not 2"),
        ({"learning_rate": ["fast"]}, "space.learning_rate", "must be a number"),
        ({"lr_scheduler": ["linear", "liner"]}, "space.lr_scheduler", "must be one of"),
    ],
)
def test_a_fault_is_told_with_the_setting_and_what_would_be_right(space: object, field: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        _checked(space)
    assert said in caught.value.fields[field][0]


def test_what_has_no_effect_is_refused_unless_what_it_needs_varies_too() -> None:
    with pytest.raises(Invalid) as caught:
        _checked({"adapter.r": [4, 8]}, base=PLAIN)
    assert caught.value.fields["space.adapter.r"] == ["has no effect while adapter.type is none"]
    assert _checked({"adapter.r": [4, 8], "adapter.type": ["lora", "dora"]}, base=PLAIN).combinations == 4


def test_a_grid_is_every_combination_in_one_order_whatever_the_database_makes_of_it() -> None:
    space = _checked({"seed": [2, 1], "batch_size": {"min": 2, "max": 6, "step": 2}}, whole=True)
    expected = [{"batch_size": size, "seed": seed} for size in (2, 4, 6) for seed in (2, 1)]
    assert space.grid() == expected
    assert Space.model_validate(dict(reversed(space.model_dump().items()))).grid() == expected
    assert space.words() == {"batch_size": "2 to 6 by 2", "seed": "2, 1"}


def test_steps_reach_the_end_of_a_range_and_no_further() -> None:
    space = _checked({"warmup_ratio": {"min": 0, "max": 0.3, "step": 0.1}, "weight_decay": [0.0]}, whole=True)
    assert [one["warmup_ratio"] for one in space.grid()] == [0.0, 0.1, 0.2, 0.3]
    assert space_read({"warmup_ratio": {"min": 0.0, "max": 0.35, "step": 0.1}}).combinations == 4


def test_values_are_kept_as_the_run_will_have_them() -> None:
    space = _checked({"batch_size": ["4", 8.0], "weight_decay": {"min": 0, "max": 1}, "packing": ["on", False]})
    assert space.root["batch_size"] == [4, 8]
    assert space.root["packing"] == [True, False]
    # A range between whole numbers of a setting that takes others has these in it.
    assert space.model_dump()["weight_decay"]["max"] == 1.0
    assert isinstance(space.root["weight_decay"].min, float)
