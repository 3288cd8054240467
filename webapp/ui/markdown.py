"""Markdown as people write it, made into HTML that cannot do harm."""

import re
from collections.abc import Sequence
from typing import Any

from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

SCHEMES = ("http", "https", "mailto")

# The page's own title stands above the headings of the text.
LOWEST_HEADING = 6


def render_markdown(text: str) -> SafeString:
    """The HTML of a text."""
    page: SafeString = mark_safe(safe_markdown().render(text))  # noqa: S308 (everything in it was escaped by the renderer)
    return page


def safe_markdown() -> MarkdownIt:
    """A parser for what people write. HTML of their own and images stay text, and links lead to pages alone."""
    markdown = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 20})
    markdown.enable(["table", "strikethrough"]).disable("image")
    markdown.validateLink = _may_link  # type: ignore[method-assign]
    markdown.add_render_rule("link_open", _link_open)
    markdown.add_render_rule("heading_open", _heading)
    markdown.add_render_rule("heading_close", _heading)
    return markdown


def _may_link(url: str) -> bool:
    """Addresses on the web, mail, and places of this page or studio; nothing that runs."""
    scheme, colon, _ = re.split("[/?#]", url.strip(), maxsplit=1)[0].partition(":")
    return not colon or scheme.lower() in SCHEMES


def _link_open(self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    tokens[at].attrSet("rel", "noopener noreferrer nofollow")
    return self.renderToken(tokens, at, options, env)


def _heading(self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    token = tokens[at]
    token.tag = f"h{min(LOWEST_HEADING, int(token.tag[1]) + 1)}"
    return self.renderToken(tokens, at, options, env)
