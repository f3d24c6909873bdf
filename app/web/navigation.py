"""The site's map: every page by what it is for, as the header of each page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import BaseRoute, Match


@dataclass(frozen=True, slots=True)
class Link:
    """One page of the map. `prominent` ones stand in the header of a wide screen as well."""

    href: str
    label: str
    prominent: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Pages of one purpose."""

    title: str
    links: Sequence[Link]


_MAP: Sequence[Group] = (
    Group(
        "Answers",
        (
            Link("/", "Plan", prominent=True),
            Link("/compare", "Compare", prominent=True),
            Link("/search", "Search", prominent=True),
            Link("/reports", "Reports", prominent=True),
            Link("/jobs", "Jobs", prominent=True),
            Link("/differ", "Why did my run differ?"),
        ),
    ),
    Group(
        "Catalogue",
        (
            Link("/models", "Models", prominent=True),
            Link("/devices", "Devices", prominent=True),
            Link("/machine", "Whose machine?"),
            Link("/software", "Software"),
            Link("/offers", "Offers"),
            Link("/workers", "Workers"),
        ),
    ),
    Group(
        "Evidence",
        (
            Link("/methodology", "Methodology"),
            Link("/accuracy", "Accuracy"),
            Link("/calibrations", "Calibrations"),
            Link("/claims", "Claims"),
            Link("/glossary", "Glossary"),
            Link("/errors", "Errors"),
            Link("/about", "About"),
        ),
    ),
)


def site_map(routes: Sequence[BaseRoute]) -> Sequence[Group]:
    """The map of an application: the pages that it has."""
    kept = (Group(group.title, [link for link in group.links if _serves(routes, link.href)]) for group in _MAP)
    return [group for group in kept if group.links]


def _serves(routes: Sequence[BaseRoute], path: str) -> bool:
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return any(route.matches(dict(scope))[0] is Match.FULL for route in routes)
