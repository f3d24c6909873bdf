"""The site's map: every page by what it is for, as the header of each page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


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


SITE_MAP: Final[Sequence[Group]] = (
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
