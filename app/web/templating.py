"""The template environment, built on first use: serve starts before anyone asks for a page."""

from __future__ import annotations

import hashlib
from functools import cache
from operator import attrgetter
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from app.assets import assets_directory
from app.web import markdown, numbers
from app.web.navigation import SITE_MAP


@cache
def environment() -> Environment:
    """Templates with every value escaped and every missing name an error."""
    made = Environment(
        loader=FileSystemLoader(assets_directory("templates")),
        autoescape=lambda name: name is None or name.endswith((".html", ".svg")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        device_name=attrgetter("display_name"),
        gib=numbers.gib,
        size=numbers.size,
        count=numbers.count,
        seconds=numbers.seconds,
        pace=numbers.pace,
        percent=numbers.percent,
        rate=numbers.rate,
        plain=numbers.plain,
        words=numbers.words,
        cell=numbers.cell,
        inline=markdown.inline,
        interval_basis=numbers.interval_basis,
    )
    made.globals.update(static=static_address)  # pyright: ignore[reportUnknownMemberType]
    return made


@cache
def static_address(name: str) -> str:
    """The address of a static file, which changes with its content, so that browsers may keep it for good."""
    digest = hashlib.sha256((assets_directory("static") / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


def render(template: str, **values: Any) -> str:
    """The text of a template."""
    return environment().get_template(template).render(navigation=SITE_MAP, **values)


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page."""
    return HTMLResponse(render(template, **values), status_code=status)
