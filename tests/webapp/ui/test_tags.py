"""How numbers, times and states are written."""

import math
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.template import Context, Template
from django.utils import timezone

from webapp.ui.templatetags import studio


def render(source: str, **context: Any) -> str:
    return Template(source).render(Context(context))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, studio.NOTHING),
        ("", studio.NOTHING),
        (0, "0"),
        (1234567, "1,234,567"),
        (0.0, "0"),
        (0.5, "0.5"),
        (0.123456, "0.1235"),
        (-1.98765, "-1.988"),
        (12345.678, "12,346"),
        (2e-5, "2e-5"),
        (1.23456e-7, "1.235e-7"),
        (3.2e9, "3.2e9"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        ("word", "word"),
    ],
)
def test_numbers_have_four_digits(value: Any, text: str) -> None:
    assert studio.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, studio.NOTHING),
        (0, "0 B"),
        (999, "999 B"),
        (9_000_000, "9 MB"),
        (269_060_552, "269 MB"),
        (2.5e12, "2.5 TB"),
    ],
)
def test_bytes_have_a_unit(value: Any, text: str) -> None:
    assert studio.bytesize(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, studio.NOTHING),
        (0.25, "0.25 s"),
        (45, "45 s"),
        (200, "3 min 20 s"),
        (7200, "2 h"),
        (7260, "2 h 1 min"),
        (270_000, "3 d 3 h"),
        (math.inf, studio.NOTHING),
    ],
)
def test_durations_have_two_units(seconds: float | None, text: str) -> None:
    assert studio.duration(seconds) == text


def test_percent() -> None:
    assert studio.percent(0.1234) == "12.3 %"


@pytest.mark.parametrize(
    ("past", "text"), [(2, "just now"), (50, "50 s ago"), (3700, "1 h ago"), (200_000, "2 d ago"), (-3700, "in 1 h")]
)
def test_times_are_relative_with_the_absolute_on_hover(past: int, text: str) -> None:
    moment = timezone.now() - timedelta(seconds=past)
    html = studio.ago(moment)
    assert text in html
    assert f'title="{moment:%Y-%m-%d %H:%M:%S} UTC"' in html
    assert studio.ago(None) == studio.NOTHING


def test_every_run_state_has_a_drawing_of_its_own_kind() -> None:
    from webapp.runs.models import Status

    states = [str(studio.status(state)) for state in Status.values]
    assert all(label in html for label, html in zip(Status.labels, states, strict=True))
    shapes = {
        str(studio.status(state)).split("<svg")[1].split("</svg>")[0] for state in ("succeeded", "failed", "running")
    }
    assert len(shapes) == 3


def test_a_state_is_escaped() -> None:
    assert "<b>" not in studio.status("<b>", "<b>x</b>")


@pytest.mark.parametrize(
    ("value", "maximum", "share"), [(0, 10, "0.0"), (5, 10, "50.0"), (99, 10, "100.0"), (None, 10, "0.0")]
)
def test_progress_is_a_share(value: int | None, maximum: int, share: str) -> None:
    assert f"width:{share}%" in studio.progress(value, maximum, "Steps")


def test_progress_without_an_end_tells_that_work_goes_on() -> None:
    html = studio.progress(3, 0, "Steps")
    assert "unknown" in html
    assert "aria-valuenow" not in html


def test_a_runs_colour_depends_on_its_id_alone() -> None:
    run_id = uuid.uuid4()
    assert studio.run_colour(run_id) == studio.run_colour(str(run_id)) in range(10)


def test_a_sparkline_shows_spikes_and_leaves_gaps() -> None:
    html = studio.sparkline([1.0, None, 3.0, math.nan, 2.0, 2.0], "Loss")
    path = html.split('d="')[1].split('"')[0]
    assert path.count("M") == 3
    assert " 2.0" in path  # the largest value touches the top
    assert "Loss: from 1 to 2" in html


@pytest.mark.parametrize("values", [None, [], [1.0], [None, None], [math.nan, 1.0]])
def test_a_sparkline_of_nothing_is_a_dash(values: Any) -> None:
    assert "svg" not in studio.sparkline(values)


def test_a_flat_sparkline_lies_in_the_middle() -> None:
    assert "M0.0 14.0L100.0 14.0" in studio.sparkline([2.0, 2.0])


def test_icons_are_inline_and_hidden_from_readers() -> None:
    html = render('{% icon "play" 20 %}')
    assert html.startswith("<svg")
    assert 'width="20"' in html
    assert 'aria-hidden="true"' in html


def test_code_marks_escape_everything_else() -> None:
    assert studio.code_marks("use `r` & <b>`x`") == "use <code>r</code> &amp; &lt;b&gt;<code>x</code>"
    assert studio.code_marks("one ` only <b>") == "one ` only &lt;b&gt;"


def test_names_break_where_their_words_end_and_are_escaped() -> None:
    assert studio.breakable("eval/mean_loss") == "eval/<wbr>mean_<wbr>loss"
    assert studio.breakable("<b>_") == "&lt;b&gt;_<wbr>"


@pytest.mark.parametrize(
    ("name", "letters"), [("Ada Lovelace", "AL"), ("max", "m"), ("Anna Maria Holm", "AH"), ("", "?")]
)
def test_initials(name: str, letters: str) -> None:
    assert studio.initials(name) == letters


def test_an_empty_state_holds_the_button_that_ends_it() -> None:
    html = render('{% empty_state "box" "No models" "Add one." "/models/" "Add a model" %}')
    assert '<a class="btn btn-primary" href="/models/">Add a model</a>' in html
