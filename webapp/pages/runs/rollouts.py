"""Answers that a model learned from: one step of them, by prompt, with their rewards."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from webapp.runs import selectors
from webapp.runs.models import Run, RunSample

# Of more the best are shown.
SHOWN = 200
SORTS = ("reward", "advantage")
EVERY_STEP = "all"


@dataclass(frozen=True)
class Rollout:
    """An answer as it is shown."""

    sample: RunSample

    @property
    def text(self) -> str:
        return self.sample.completion.strip()

    @property
    def note(self) -> str:
        """What is to be known of the answer, such as the critique that it was written after."""
        return str(self.sample.data.get("note") or "")

    @property
    def parts(self) -> list[tuple[str, float | None]]:
        """Each reward before its weight; None for one that did not judge the answer."""
        parts = self.sample.data.get("rewards")
        return [(name, _number(value)) for name, value in parts.items()] if isinstance(parts, dict) else []


@dataclass(frozen=True)
class Group:
    """The answers to one prompt of a step."""

    step: int
    prompt: str
    reference: str
    answers: list[Rollout]


def at_step(run: Run, asked: str, sort: str) -> dict[str, object]:
    """One step's answers, by default the newest step's, or those of every step (`all`): the best first."""
    steps = selectors.sample_steps(run, rollouts=True)
    newest = steps[-1] if steps else None
    everywhere = asked == EVERY_STEP
    step = int(asked) if asked.isdigit() and int(asked) in steps else newest
    sort = sort if sort in SORTS else SORTS[0]
    shown = selectors.rollouts_best_first(run, sort, step=None if everywhere else step)[:SHOWN] if steps else []
    return {
        "run": run,
        "steps": steps,
        "step": None if everywhere else step,
        "everywhere": everywhere,
        "shown": SHOWN,
        "follows": step == newest and not everywhere,
        "sorts": SORTS,
        "sort": sort,
        "groups": _groups([Rollout(sample) for sample in _last(shown)]),
    }


def _last(samples: Iterable[RunSample]) -> Iterable[RunSample]:
    """Of answers with one place the newest: a run that went on from a checkpoint before this step wrote them twice."""
    ordered = list(samples)
    newest: dict[tuple[object, ...], int] = {}
    for one in ordered:
        newest[_place(one)] = max(one.pk, newest.get(_place(one), 0))
    return [one for one in ordered if newest[_place(one)] == one.pk]


def _place(sample: RunSample) -> tuple[object, ...]:
    return sample.step, sample.data.get("group"), sample.data.get("place", sample.pk)


def _groups(answers: Iterable[Rollout]) -> list[Group]:
    """In the order of each one's first answer."""
    groups: dict[tuple[int, str, str], list[Rollout]] = {}
    for answer in answers:
        sample = answer.sample
        groups.setdefault((sample.step, str(sample.data.get("group")), sample.prompt), []).append(answer)
    return [
        Group(step, prompt, str(found[0].sample.data.get("reference", "")), found)
        for (step, _, prompt), found in groups.items()
    ]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
