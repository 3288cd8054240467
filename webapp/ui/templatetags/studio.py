"""The tags and filters that every template has: numbers and times, icons, states, small drawings."""

import functools
import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from lucide.templatetags.lucide import lucide

from polm_core.settings import as_text

register = template.Library()

NOTHING = "–"  # noqa: RUF001 (an en dash, what a table shows where there is no value)
RUN_COLOURS = 10

# The drawing of a state, on a 12 x 12 grid: it is told apart by its shape alone, the colour only adds to it.
_SHAPES = {
    "ring": '<circle cx="6" cy="6" r="4.25" fill="none" stroke="currentColor" stroke-width="1.5"/>',
    "turning": '<path d="M6 1.75A4.25 4.25 0 1 1 1.75 6" fill="none" stroke="currentColor" stroke-width="1.5"/>',
    "dot": '<circle cx="6" cy="6" r="4.5" fill="currentColor"/>',
    "bars": '<path d="M3 2h2v8H3zM7 2h2v8H7z" fill="currentColor"/>',
    "square": '<rect x="2.25" y="2.25" width="7.5" height="7.5" rx="1" fill="currentColor"/>',
    "check": '<path d="m2 6.5 2.7 2.7L10 3.5" fill="none" stroke="currentColor" stroke-width="2"/>',
    "cross": '<path d="m2.5 2.5 7 7m0-7-7 7" fill="none" stroke="currentColor" stroke-width="2"/>',
}
# state -> (shape, tone)
_STATES = {
    "queued": ("ring", "idle"),
    "waiting": ("ring", "idle"),
    "starting": ("turning", "busy"),
    "preparing": ("turning", "busy"),
    "processing": ("turning", "busy"),
    "running": ("dot", "busy"),
    "pausing": ("bars", "busy"),
    "paused": ("bars", "hold"),
    "draining": ("bars", "hold"),
    "stopping": ("square", "busy"),
    "stopped": ("square", "idle"),
    "offline": ("square", "idle"),
    "held": ("square", "idle"),
    "pruned": ("square", "hold"),
    "succeeded": ("check", "good"),
    "finished": ("check", "good"),
    "ready": ("check", "good"),
    "done": ("check", "good"),
    "online": ("dot", "good"),
    "failed": ("cross", "bad"),
    "accepted": ("check", "good"),
    "rejected": ("cross", "bad"),
    "unclear": ("ring", "hold"),
    "invalid": ("cross", "bad"),
}


@functools.cache
def _icon(name: str, size: int) -> SafeString:
    drawing: SafeString = lucide(name, size=size, aria_hidden="true", focusable="false")
    return mark_safe(drawing.replace("<svg ", '<svg class="icon" ', 1))  # noqa: S308 (a wheel's file)


@register.simple_tag
def icon(name: str, size: int = 16) -> SafeString:
    """A lucide icon as inline SVG, hidden from assistive technology: the words beside it say what it means."""
    return _icon(name, size)


@register.filter
def number(value: Any) -> str:
    """Whole numbers in full with thousands separators, others with 4 significant digits; NaN and infinities by name."""
    if value is None or value == "" or isinstance(value, bool):
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    try:
        figure = float(value)
    except (TypeError, ValueError):
        return str(value)
    if not math.isfinite(figure):
        return "NaN" if math.isnan(figure) else ("∞" if figure > 0 else "-∞")
    if figure != 0 and not 1e-4 <= abs(figure) < 1e7:
        mantissa, exponent = f"{figure:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if abs(figure) >= 1e4:
        return f"{figure:,.0f}"
    return f"{figure:,.4g}"


@register.filter
def bytesize(value: Any) -> str:
    """Bytes in decimal units, as disks are sold: `269 MB`."""
    if value is None or value == "":
        return NOTHING
    size = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


@register.filter
def percent(value: Any) -> str:
    """A share between 0 and 1 as a percentage."""
    return NOTHING if value is None or value == "" else f"{100 * float(value):.3g} %"


@register.filter
def duration(value: Any) -> str:
    """Seconds in the two largest units that matter: `45 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`."""
    if value is None or value == "":
        return NOTHING
    seconds = max(0.0, float(value))
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 10:
        return f"{seconds:.2g} s"
    left = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


@register.filter
def ago(value: datetime | None) -> str:
    """How long ago, as a `<time>` with the absolute time on hover; kept fresh by app.js."""
    if value is None:
        return NOTHING
    utc = value.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>',
        utc.isoformat(timespec="seconds"),
        f"{utc:%Y-%m-%d %H:%M:%S} UTC",
        _distance((timezone.now() - value).total_seconds()),
    )


def _distance(seconds: float) -> str:
    ahead, seconds = seconds < -1, abs(seconds)
    if seconds < 10:
        return "in a moment" if ahead else "just now"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= length:
            text = f"{int(seconds // length)} {unit}"
            return f"in {text}" if ahead else f"{text} ago"
    return "just now"


@register.simple_tag
def status(state: str, label: str = "") -> SafeString:
    """A state as a chip with a shape and a colour of its own."""
    shape, tone = _STATES.get(str(state), ("ring", "idle"))
    return format_html(
        '<span class="status {} shape-{}"><svg class="shape" viewBox="0 0 12 12" aria-hidden="true">{}</svg>{}</span>',
        tone,
        shape,
        mark_safe(_SHAPES[shape]),  # noqa: S308 (a constant)
        label or str(state).replace("_", " ").capitalize(),
    )


@register.simple_tag
def progress(value: float | None, maximum: float | None, label: str = "Progress") -> SafeString:
    """A bar that is `value` of `maximum` full; without a maximum it shows that work goes on."""
    if not maximum:
        return format_html('<div class="progress unknown" role="progressbar" aria-label="{}"><i></i></div>', label)
    share = 100 * min(1.0, max(0.0, (value or 0) / maximum))
    return format_html(
        '<div class="progress" role="progressbar" aria-label="{}" aria-valuemin="0" aria-valuemax="100" '
        'aria-valuenow="{}"><i style="width:{}%"></i></div>',
        label,
        round(share),
        f"{share:.1f}",
    )


@register.simple_tag
def empty_state(name: str, title: str, text: str = "", url: str = "", label: str = "") -> SafeString:
    """What a page shows while it has nothing to show: what to do next, and the button that does it."""
    button = format_html('<a class="btn btn-primary" href="{}">{}</a>', url, label) if url else ""
    return format_html(
        '<div class="empty">{}<p class="empty-title">{}</p><p>{}</p>{}</div>', _icon(name, 28), title, text, button
    )


@register.filter
def run_colour(run_id: uuid.UUID | str) -> int:
    """The index of a run's colour (`--run-0` … `--run-9`): the same on every page, and in charts.js."""
    return int(str(run_id).replace("-", "")[-6:], 16) % RUN_COLOURS


@register.simple_tag
def sparkline(values: Sequence[float | None] | None, label: str = "", colour: int | None = None) -> SafeString:
    """A curve the size of a word. Points that are missing or not finite leave a gap."""
    finite = [v for v in values or () if v is not None and math.isfinite(v)]
    if not values or len(finite) < 2:
        return format_html('<span class="sparkline none" title="{}">{}</span>', label, NOTHING)
    low, high = min(finite), max(finite)
    return format_html(
        '<svg class="sparkline{}" viewBox="0 0 100 28" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path d="{}" vector-effect="non-scaling-stroke"/></svg>',
        "" if colour is None else f" run-{colour}",
        f"{label}: from {number(finite[0])} to {number(finite[-1])}".removeprefix(": "),
        _path(values, low, high - low),
    )


def _path(values: Sequence[float | None], low: float, spread: float) -> str:
    steps, pen = [], "M"
    for index, value in enumerate(values):
        if value is None or not math.isfinite(value):
            pen = "M"
            continue
        x = 100 * index / (len(values) - 1)
        y = 26 - 24 * (value - low) / spread if spread else 14.0
        steps.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(steps)


@register.filter
def initials(person: Any) -> str:
    """Up to two letters that stand for a person."""
    words = str(person).split()
    return "".join(word[0] for word in (words if len(words) == 1 else [words[0], words[-1]])) if words else "?"


@register.filter
def code_marks(text: str) -> SafeString:
    """A docstring's `code` between backticks as `<code>`; everything else is escaped."""
    pieces = str(text).split("`")
    if len(pieces) % 2 == 0:
        return format_html("{}", text)
    marked = (format_html("<code>{}</code>", piece) if index % 2 else piece for index, piece in enumerate(pieces))
    return format_html_join("", "{}", ((piece,) for piece in marked))


@register.filter
def breakable(name: str) -> SafeString:
    """A name such as `eval/mean_token_accuracy` that may be broken into lines where its words end."""
    return mark_safe(escape(name).replace("_", "_<wbr>").replace("/", "/<wbr>"))  # noqa: S308 (it is escaped)


@register.filter
def setting_text(value: Any) -> str:
    """A setting's value as it is typed, a dash where it is not set."""
    return as_text(value) or NOTHING
