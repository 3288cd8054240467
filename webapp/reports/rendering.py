"""From a report's text to its page: markdown without HTML of one's own, and live blocks in their places."""

import json
from collections.abc import Callable, Iterator, Sequence

from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

from polm_core.errors import PolmError
from webapp.accounts.models import Team
from webapp.metrics.groups import SETTING, group_runs
from webapp.metrics.selectors import figures_of
from webapp.reports.blocks import KINDS, Block, ChartBlock, TableBlock, block_runs, check_count, parse_block
from webapp.runs.config_files import flat_settings
from webapp.runs.models import Run
from webapp.ui.markdown import safe_markdown
from webapp.ui.templatetags.studio import number, setting_text

Source = Callable[[int], str]


def render_report(team: Team, body: str, source: Source | None = None) -> SafeString:
    """The HTML of a report of the team. What is wrong with a block is said in its place.

    `source(place)` is the address where others read the numbers of the block's chart, which is at that place from 0;
    without it the page is the team's own: charts ask the API, and runs link to their pages.
    """
    markdown = _markdown()
    tokens = markdown.parse(body)
    for place, token in enumerate(_live(tokens)):
        token.type = "live_block"
        token.content = _block(team, place, token, source)
    rendered = markdown.renderer.render(tokens, markdown.options, {})
    # Everything in it was escaped by the renderer, or by the templates of the blocks.
    page: SafeString = mark_safe(rendered)  # noqa: S308
    return page


def block_at(body: str, place: int) -> Block | None:
    """The block at that place of a text, from 0; None where there is none that can be read."""
    for at, token in enumerate(_live(_markdown().parse(body))):
        if at == place:
            try:
                check_count(place)
                return parse_block(_kind(token), token.content)
            except PolmError:
                return None
    return None


def _markdown() -> MarkdownIt:
    markdown = safe_markdown()
    markdown.add_render_rule("live_block", lambda self, tokens, at, options, env: tokens[at].content)
    return markdown


def _live(tokens: Sequence[Token]) -> Iterator[Token]:
    """The fences that stand for something live, in their order."""
    return (token for token in tokens if token.type == "fence" and _kind(token) in KINDS)


def _kind(token: Token) -> str:
    return token.info.strip().lower()


def _block(team: Team, place: int, token: Token, source: Source | None) -> str:
    kind = _kind(token)
    try:
        check_count(place)
        block = parse_block(kind, token.content)
        runs, count = block_runs(team, block)
        context = {"block": block, "place": place, "runs": runs, "left_out": max(0, count - len(runs))}
        context |= {"own": source is None, "source": source(place) if source else ""}
        if isinstance(block, ChartBlock):
            _check_group(block, runs)
            context["runs_json"] = json.dumps([{"id": str(run.pk), "name": run.name} for run in runs])
        if isinstance(block, TableBlock):
            context["rows"] = _rows(block, runs)
    except PolmError as error:
        return render_to_string("reports/_block_error.html", {"error": error, "kind": kind, "text": token.content})
    return render_to_string(f"reports/_{kind}.html", context)


def _check_group(block: ChartBlock, runs: Sequence[Run]) -> None:
    if block.group:
        group_runs(runs, block.group)


def _rows(block: TableBlock, runs: Sequence[Run]) -> list[tuple[Run, list[str]]]:
    """A row a run, as text: figures of metrics, and settings."""
    metrics = [key for key in block.keys if not key.startswith(SETTING)]
    figures = figures_of([run.pk for run in runs], metrics, block.figure) if metrics else {}
    rows = []
    for place, run in enumerate(runs):
        settings = flat_settings(run.config)
        cells = [
            number(figures[key][place]) if key in figures else setting_text(settings.get(key.removeprefix(SETTING)))
            for key in block.keys
        ]
        rows.append((run, cells))
    return rows
