"""The fenced blocks of a report that stand for something live: a chart, a table of figures, a list of runs.

    ```chart
    runs: 0192f0c0-…, 0192f0c0-…
    key: eval/loss
    group: config.learning_rate
    ```

In place of `runs`, `query` takes a search as the list of runs does.
"""

import uuid
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from polm_core.errors import PolmError
from webapp.accounts.models import Team
from webapp.errors import Invalid
from webapp.metrics.groups import SETTING, Band
from webapp.metrics.selectors import with_settings
from webapp.reports.rules import MAX_BLOCKS, MAX_KEYS, MAX_RUNS
from webapp.runs.models import Run
from webapp.runs.query.meaning import runs_matching

MAX_LINES = 40


def _split(value: Any) -> Any:
    return [part for part in (one.strip() for one in value.split(",")) if part] if isinstance(value, str) else value


def _yes(value: Any) -> Any:
    return value.lower() in {"yes", "true", "on", "1"} if isinstance(value, str) else value


Runs = Annotated[list[uuid.UUID], BeforeValidator(_split), Field(max_length=MAX_RUNS)]
Keys = Annotated[list[str], BeforeValidator(_split), Field(max_length=MAX_KEYS)]
YesNo = Annotated[bool, BeforeValidator(_yes)]


class Block(BaseModel):
    """What every block says: which runs, by their ids or by a search, of which the newest count."""

    model_config = ConfigDict(extra="forbid")
    kind: ClassVar[str]

    title: str = Field("", max_length=200)
    runs: Runs = []
    query: str = Field("", max_length=1000)

    @model_validator(mode="after")
    def _says_which(self) -> "Block":
        if bool(self.runs) == bool(self.query):
            raise ValueError("give either runs or a query")
        return self


class ChartBlock(Block):
    """A metric of the runs, as Compare draws it."""

    kind: ClassVar[str] = "chart"

    key: str = Field(max_length=250)
    x: str = Field("step", max_length=250)
    smooth: float = Field(0.6, ge=0, le=0.99)
    group: str = Field("", max_length=250)
    band: Band = Band.STD
    logy: YesNo = False

    @property
    def says(self) -> str:
        """What its lines are, where they are no runs."""
        if not self.group:
            return ""
        return f"mean by {self.group.removeprefix(SETTING)}, band: {self.band.label}"


class TableBlock(Block):
    """A row a run: the values of some metrics, and of settings, which the text names as `config.beta`."""

    kind: ClassVar[str] = "table"

    keys: Keys = Field(min_length=1)
    figure: Literal["last", "min", "max"] = "last"


class RunsBlock(Block):
    """The runs with their state."""

    kind: ClassVar[str] = "runs"


KINDS: dict[str, type[Block]] = {kind.kind: kind for kind in (ChartBlock, TableBlock, RunsBlock)}


def parse_block(kind: str, text: str) -> Block:
    """A block from its lines, each `name: value`. Raises Invalid, which says what would be right."""
    wanted = KINDS[kind]
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    values: dict[str, str] = {}
    problems: dict[str, list[str]] = {}
    for line in lines[:MAX_LINES]:
        name, colon, value = line.partition(":")
        name = name.strip()
        if not colon:
            problems.setdefault("lines", []).append(f"“{line.strip()[:60]}” has no colon: each is a name: value")
        elif name in values:
            problems.setdefault(name, []).append("is given twice")
        else:
            values[name] = value.strip()
    if len(lines) > MAX_LINES:
        problems["lines"] = [f"at most {MAX_LINES}"]
    if problems:
        raise Invalid("The block cannot be read.", fields=problems)
    try:
        return wanted.model_validate(values)
    except ValidationError as error:
        raise Invalid("The block cannot be read.", fields=_said(error, wanted)) from None


def block_runs(team: Team, block: Block) -> tuple[list[Run], int]:
    """The runs of a block and how many it names or fits: those of the team alone, the newest of a search.

    Raises Invalid for a search that cannot be read, or when there are none.
    """
    query = with_settings(Run.objects.filter(team=team).select_related("project"))
    if block.runs:
        found = query.in_bulk(block.runs)
        runs = [found[pk] for pk in dict.fromkeys(block.runs) if pk in found]
        count = len(set(block.runs))
    else:
        try:
            matching = runs_matching(query, block.query)
        except PolmError as error:
            raise Invalid("The search cannot be read.", fields={"query": [f"{error.message} {error.advice}"]}) from None
        runs = list(matching.order_by("-id")[:MAX_RUNS])
        count = len(runs) if len(runs) < MAX_RUNS else matching.count()
    if not runs:
        raise Invalid("The block shows no run.", fields=_nothing(block))
    return runs, count


def check_count(place: int) -> None:
    """Raise Invalid for a block that is one too many."""
    if place >= MAX_BLOCKS:
        raise Invalid("The report has too many blocks.", fields={"blocks": [f"at most {MAX_BLOCKS}"]})


def _nothing(block: Block) -> dict[str, list[str]]:
    if block.query:
        return {"query": ["fits none of the team's runs; try it in the list of runs"]}
    return {"runs": ["none of these is a run of the team: they may have been deleted"]}


def _said(error: ValidationError, wanted: type[Block]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        name = ".".join(str(part) for part in problem["loc"][:1]) or "runs"
        if problem["type"] == "extra_forbidden":
            said = f"is not known here: there are {', '.join(wanted.model_fields)}"
        elif problem["type"] == "missing":
            said = "is needed"
        else:
            said = problem["msg"].removeprefix("Value error, ")
        if said not in found.setdefault(name, []):
            found[name].append(said)
    return found
