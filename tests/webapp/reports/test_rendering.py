"""From text to page: markdown that cannot do harm, and blocks that are right or say what would be."""

import html
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.reports.blocks import ChartBlock, parse_block
from webapp.reports.rendering import block_at, render_report
from webapp.reports.rules import MAX_BLOCKS, MAX_RUNS
from webapp.runs.models import Run
from webapp.ui.templatetags.studio import NOTHING


@pytest.fixture
def run(team: Team) -> Run:
    run = make_run(team, "amber", config={"beta": 0.1}, tags=["good"])
    MetricWriter(run.pk).append([MetricLine(step, 1e9, {"loss": 3.0 / step}) for step in (1, 2, 3)])
    return run


def fence(kind: str, *lines: str) -> str:
    return "\n".join([f"```{kind}", *lines, "```"])


def shown(team: Team, body: str, **options: Any) -> str:
    return str(render_report(team, body, **options))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Title\n\n## Part", "<h2>Title</h2>\n<h3>Part</h3>"),
        ("a **b** `c`", "<p>a <strong>b</strong> <code>c</code></p>"),
        ("| a |\n|---|\n| 1 |", "<td>1</td>"),
        ("[x](https://a.b)", '<a href="https://a.b" rel="noopener noreferrer nofollow">x</a>'),
        ("[x](/runs/)", '<a href="/runs/" rel="noopener noreferrer nofollow">x</a>'),
        ("```python\nx = 1\n```", '<pre><code class="language-python">x = 1'),
    ],
)
def test_markdown(team: Team, text: str, expected: str) -> None:
    assert expected in shown(team, text)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](java&#10;script:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "<javascript:alert(1)>",
        "[x][y]\n\n[y]: vbscript:alert(1)",
        "![x](https://elsewhere.org/pixel.png)",
        "```chart\nruns: <script>alert(1)</script>\n```",
        "```<script>\n```",
        "[x](https://a.b 'a\" onclick=\"alert(1)')",
    ],
)
def test_a_text_does_no_harm(team: Team, text: str) -> None:
    rendered = shown(team, text).lower()
    assert "<script" not in rendered
    assert "<img" not in rendered
    assert 'href="j' not in rendered
    assert 'href="data' not in rendered
    assert 'href="v' not in rendered
    assert '" onclick="' not in rendered


def test_a_chart_tells_the_page_what_to_draw(team: Team, run: Run) -> None:
    text = fence("chart", "title: How it fell", f"runs: {run.pk}", "key: loss", "smooth: 0.9", "logy: yes", "x: epoch")
    rendered = html.unescape(shown(team, text))
    for part in ('data-axis="epoch"', 'data-smoothing="0.9"', "data-logy", 'data-key="loss"', "How it fell", "amber"):
        assert part in rendered
    assert 'data-source=""' in rendered
    assert 'data-source="/there?0"' in shown(team, text, source=lambda place: f"/there?{place}")


def test_a_table_has_figures_and_settings(team: Team, run: Run) -> None:
    rendered = shown(team, fence("table", f"runs: {run.pk}", "keys: loss, config.beta, nothing"))
    assert [part.split("<")[0] for part in rendered.split('<td class="num">')[1:]] == ["1", "0.1", NOTHING]
    assert f'href="/runs/{run.pk}"' in rendered
    assert '<td class="num">3<' in shown(team, fence("table", f"runs: {run.pk}", "keys: loss", "figure: max"))


def test_a_search_shows_what_fits_now_the_newest_first(team: Team, run: Run) -> None:
    text = fence("runs", "query: tag:good")
    assert "amber" in shown(team, text)
    later = make_run(team, "beryl", tags=["good"])
    rendered = shown(team, text)
    assert rendered.index("beryl") < rendered.index("amber")
    later.delete()
    assert "beryl" not in shown(team, text)


def test_too_many_for_a_block_are_counted(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.reports.blocks.MAX_RUNS", 2)
    for number in range(5):
        make_run(team, f"r{number}", tags=["many"])
    assert "3 more runs are left out: the newest 2 are shown." in shown(team, fence("runs", "query: tag:many"))


@pytest.mark.parametrize(
    ("kind", "lines", "said"),
    [
        ("chart", ["query: method:sft", "key: loss", "smoth: 1"], "smoth</code>: is not known here: there are title"),
        ("chart", ["query: method:sft"], "key</code>: is needed"),
        ("chart", ["key: loss"], "give either runs or a query"),
        ("chart", ["runs: nonsense", "key: loss"], "runs</code>: Input should be a valid UUID"),
        ("chart", ["query: method:sft", "key: loss", "smooth: 1"], "less than or equal to 0.99"),
        ("chart", ["query: method:sft", "key: loss", "key: reward"], "key</code>: is given twice"),
        ("chart", ["query: method:sft", "key: loss", "band: wide"], "'std', 'range' or 'ci'"),
        ("chart", ["query: method:sft", "key: loss", "group: config.none"], "The runs cannot be grouped by this."),
        ("chart", ["query: config.beta>=", "key: loss"], "a number was expected"),
        ("chart", ["query: tag:nobody", "key: loss"], "fits none of the team's runs"),
        ("chart", ["just words"], "has no colon"),
        ("table", ["query: method:sft"], "keys</code>: is needed"),
        ("table", ["query: method:sft", "keys: loss", "figure: best"], "'last', 'min' or 'max'"),
        ("runs", ["runs: 0192f0c0-0000-7000-8000-000000000000"], "they may have been deleted"),
        ("runs", [f"line{number}: 1" for number in range(50)], "at most 40"),
        ("runs", [f"runs: {', '.join(['0192f0c0-0000-7000-8000-000000000000'] * (MAX_RUNS + 1))}"], "at most 100"),
    ],
)
def test_what_is_wrong_with_a_block_is_said_in_its_place(
    team: Team, run: Run, kind: str, lines: list[str], said: str
) -> None:
    rendered = html.unescape(shown(team, f"before\n\n{fence(kind, *lines)}\n\nafter"))
    assert said in rendered
    assert rendered.index("before") < rendered.index("notice error") < rendered.index("after")


def test_other_teams_runs_are_not_there(team: Team, other_team: Team) -> None:
    foreign = make_run(other_team, "zinnober")
    for line in (f"runs: {foreign.pk}", "query: name=zinnober"):
        rendered = shown(team, fence("runs", line))
        assert "The block shows no run." in rendered
        assert ">zinnober<" not in rendered


def test_blocks_are_counted_and_found_by_their_place(team: Team, run: Run) -> None:
    one = fence("chart", f"runs: {run.pk}", "key: loss")
    body = "\n\n".join([one] * (MAX_BLOCKS + 1))
    rendered = shown(team, body, source=lambda place: str(place))
    assert rendered.count("data-report-chart") == MAX_BLOCKS
    assert "The report has too many blocks." in rendered
    assert isinstance(block_at(body, MAX_BLOCKS - 1), ChartBlock)
    assert block_at(body, MAX_BLOCKS) is block_at(body, 99) is None
    assert block_at(f"> {one.replace(chr(10), chr(10) + '> ')}\n", 0) == parse_block(
        "chart", f"runs: {run.pk}\nkey: loss"
    )
    assert block_at("```chart\nnonsense\n```", 0) is None


def test_a_block_of_many_runs_costs_as_many_queries_as_one(
    team: Team, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    for number in range(50):
        make_run(team, f"r{number}")
    text = "\n\n".join(
        [
            fence("chart", "query: method:sft", "key: loss", "group: model"),
            fence("table", "query: method:sft", "keys: loss, config.beta"),
            fence("runs", "query: method:sft"),
        ]
    )
    with django_assert_max_num_queries(4):
        rendered = shown(team, text)
    assert "notice error" not in rendered
