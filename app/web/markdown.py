"""The few forms of Markdown that our own documents use, as HTML. Everything else is shown as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

_INLINE = re.compile(
    r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(((?:https?://|/|#)[^)\s]*|[a-z]+\.md)\)|\*([^*\s][^*]*)\*"
)
_LIST_ITEM = re.compile(r"(?:[-*]|\d+\.) +(.*)")


def to_html(text: str) -> Markup:
    """The HTML of a document with headings, paragraphs, lists, tables, quotes and fenced code."""
    return Markup("\n").join(_block(lines) for lines in _blocks(text.splitlines()))


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Runs of lines between blank ones; a fence holds its blank lines, a heading stands alone."""
    block: list[str] = []
    fenced = False
    for line in lines:
        if line.startswith("```"):
            fenced = not fenced
        if not fenced and (not line.strip() or line.startswith("#")) and not line.startswith("```"):
            if block:
                yield block
            block = []
            if line.startswith("#"):
                yield [line]
        else:
            block.append(line)
    if block:
        yield block


def _block(lines: list[str]) -> Markup:
    first = lines[0]
    if first.startswith("#"):
        return _heading(first)
    if first.startswith("```"):
        code = "\n".join(line for line in lines[1:] if not line.startswith("```"))
        return Markup('<pre tabindex="0"><code>{}</code></pre>').format(code)
    if first.startswith("|") and len(lines) > 1:
        return _table(lines)
    if _LIST_ITEM.match(first):
        return _list(lines)
    if first.startswith(">"):
        text = " ".join(line.lstrip("> ") for line in lines)
        return Markup('<blockquote class="notice"><p>{}</p></blockquote>').format(inline(text))
    return Markup("<p>{}</p>").format(inline(" ".join(lines)))


def _heading(line: str) -> Markup:
    level = min(len(line) - len(line.lstrip("#")), 4)
    text = line.lstrip("# ").strip()
    anchor = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
    return Markup('<h{0} id="{1}">{2}</h{0}>').format(level, anchor, inline(text))


def _list(lines: Sequence[str]) -> Markup:
    items: list[str] = []
    for line in lines:
        match = _LIST_ITEM.match(line)
        if match:
            items.append(match[1])
        elif items:
            items[-1] += " " + line.strip()
    tag = "ol" if lines[0][0].isdigit() else "ul"
    body = Markup("").join(Markup("<li>{}</li>").format(inline(item)) for item in items)
    return Markup("<{0}>{1}</{0}>").format(Markup(tag), body)


def _table(lines: Sequence[str]) -> Markup:
    head, _, *rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    header = Markup("").join(Markup('<th scope="col">{}</th>').format(inline(cell)) for cell in head)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(inline(cell)) for cell in row))
        for row in rows
    )
    return Markup(
        '<div class="table" tabindex="0"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(header, body)


def inline(text: str) -> Markup:
    """Code, bold, links and italics of a line; the rest escaped."""
    parts: list[str] = []
    position = 0
    for match in _INLINE.finditer(text):
        parts.append(str(escape(text[position : match.start()])))
        parts.append(str(_span(match)))
        position = match.end()
    parts.append(str(escape(text[position:])))
    return Markup("".join(parts))  # every part is escaped above


def _span(match: re.Match[str]) -> Markup:
    code, bold, label, href, italic = match.groups()
    if code is not None:
        return Markup("<code>{}</code>").format(code)
    if bold is not None:
        return Markup("<strong>{}</strong>").format(inline(bold))
    if label is not None:
        # Our documents link to each other as files; their pages have the same names.
        return Markup('<a href="{}">{}</a>').format(f"/{href[:-3]}" if href.endswith(".md") else href, label)
    return Markup("<em>{}</em>").format(italic)
