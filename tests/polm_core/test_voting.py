"""What a choice among N answers is worth, against counting every set of N by hand."""

import random
from itertools import combinations, product
from statistics import fmean

import pytest

from polm_core.methods.reasoning import voting
from polm_core.methods.reasoning.voting import Drawn, any_right, best_right, counts_up_to, vote_right, with_band


def some_answers(count: int, seed: int) -> list[Drawn]:
    draw = random.Random(seed)
    return [
        Drawn(says == "5", says, draw.choice([None, 0.0, 0.5, 1.0]))
        for says in draw.choices(["5", "6", "7", None], k=count)
    ]


@pytest.mark.parametrize(("seed", "count"), list(product(range(6), [1, 2, 3, 5, 7])))
def test_the_best_of_n_is_what_all_sets_of_n_give(seed: int, count: int) -> None:
    answers = some_answers(7, seed)

    def best(drawn: tuple[Drawn, ...]) -> float:
        rewards = [-1.0 if one.reward is None else one.reward for one in drawn]
        return fmean(one.is_right for one, reward in zip(drawn, rewards, strict=True) if reward == max(rewards))

    sets = list(combinations(answers, count))
    assert any_right(answers, count) == pytest.approx(fmean(any(one.is_right for one in drawn) for drawn in sets))
    assert best_right(answers, count) == pytest.approx(fmean(map(best, sets)))


def test_a_choice_that_knows_the_answer_is_right_where_any_is() -> None:
    answers = [Drawn(right, "x", float(right)) for right in (True, False, False, True, False)]
    for count in range(1, 6):
        assert best_right(answers, count) == pytest.approx(any_right(answers, count))


def test_a_majority_elects_and_equals_are_drawn() -> None:
    right, wrong, other = Drawn(True, "5", 1.0), Drawn(False, "6", 0.1), Drawn(False, None, 3.0)
    assert vote_right([right, right, wrong], 3, lambda _: 1, "a") == 1
    assert vote_right([right, wrong], 2, lambda _: 1, "a") == 0.5
    assert vote_right([right, wrong, wrong], 3, lambda _: 1, "a") == 0
    assert vote_right([right, wrong, wrong], 3, lambda one: one.reward or 0, "a") == 1, "by weight"
    assert vote_right([right, wrong, wrong], 3, lambda _: 0, "a") == 0, "of no weight: by number"
    assert vote_right([right, other, other], 3, lambda _: 1, "a") == 1, "what says nothing has no vote"
    assert vote_right([other, other], 2, lambda _: 1, "a") == 0
    assert vote_right([right, wrong, wrong], 1, lambda _: 1, "a") == pytest.approx(1 / 3)


def test_of_many_sets_some_are_drawn_and_the_same_ones_each_time() -> None:
    answers = some_answers(16, 1)
    drawn = [vote_right(answers, 8, lambda _: 1, "seed") for _ in range(2)]
    assert drawn[0] == drawn[1]
    every = fmean(voting._elected(one, lambda _: 1) for one in combinations(answers, 8))
    assert drawn[0] == pytest.approx(every, abs=0.2)


def test_the_band_holds_the_mean_and_shrinks_with_more_prompts() -> None:
    few, many = ([0.0, 1.0] * 10, [0.0, 1.0] * 1000)
    narrow, wide = with_band(many, 1), with_band(few, 1)
    assert wide.low < wide.mean == 0.5 < wide.high
    assert narrow.high - narrow.low < (wide.high - wide.low) / 5
    # The bootstrap of a mean comes close to what the normal law says of it.
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * 0.5 / 20**0.5, rel=0.2)
    assert with_band([1.0, 1.0], 1) == (1.0, 1.0, 1.0)


def test_counts_double_up_to_the_last() -> None:
    assert [counts_up_to(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
