"""Machines for rent: prices by the hour, free tiers with their limits, each with its date and source."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

MAXIMUM_PAGE = 200
_LABEL = re.compile(r"(\d+) ?GB\b")


class UnknownOffer(LookupError):
    """No offer of the catalogue has this id; names ids that look alike."""

    def __init__(self, offer_id: str) -> None:
        self.offer_id = offer_id
        self.suggestions = tuple(get_close_matches(offer_id[:128].casefold(), list(_by_id()), n=3, cutoff=0.5))
        hint = f"; the nearest ids are {', '.join(self.suggestions)}" if self.suggestions else ""
        super().__init__(f"no offer {offer_id[:128]!r} in the catalogue{hint}")


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that a provider rents out or lends.

    Prices are in US dollars an hour of the whole machine, None where none is published; `free` ones cost nothing.
    `session_hours` is the longest session and `weekly_hours` the quota of a week, None where there is no such limit or
    nobody knows; `limits` says it in words. `not_planned` says why a run cannot be planned on it. `as_of` is the date
    of the price, as exact as its source: 2026-10-07, 2026-10 or 2026.
    """

    id: str
    provider: str
    name: str
    device_id: str | None
    device_count: int | None
    host_memory_gib: float | None
    vcpus: int | None
    usd_per_hour: float | None
    spot_usd_per_hour: float | None
    free: bool
    session_hours: float | None
    weekly_hours: float | None
    limits: str | None
    not_planned: str | None
    region: str | None
    as_of: str
    confidence: str
    note: str | None
    sources: tuple[str, ...]

    def price(self, *, spot: bool) -> float | None:
        """US dollars an hour, on demand or spot."""
        return self.spot_usd_per_hour if spot else self.usd_per_hour

    @property
    def full_name(self) -> str:
        """Provider and offer; where the offer's name holds the card's label, which says GB and means GiB, in GiB."""
        return _LABEL.sub(r"\1 GiB", f"{self.provider} {self.name}")


@dataclass(frozen=True, slots=True)
class OfferPage:
    """Some offers of a search; `next_cursor` asks for the following ones, None at the end."""

    items: tuple[Offer, ...]
    next_cursor: str | None


@cache
def _by_id() -> dict[str, Offer]:
    text = files("planner.catalog").joinpath("offers.jsonl").read_text(encoding="utf-8")
    offers = [_offer_of(json.loads(line)) for line in text.splitlines()]
    return {offer.id: offer for offer in offers}


def _offer_of(row: dict[str, Any]) -> Offer:
    sources = tuple(row.pop("sources"))
    return Offer(**row, sources=sources)


def all_offers() -> Sequence[Offer]:
    """Every offer, in the order of the file."""
    return tuple(_by_id().values())


def planned_offers() -> Sequence[Offer]:
    """The offers that a run can be planned on."""
    return tuple(offer for offer in all_offers() if offer.not_planned is None)


def offer(offer_id: str) -> Offer:
    """The offer with this id.

    Raises:
        UnknownOffer: no offer has it.
    """
    found = _by_id().get(offer_id.strip().casefold())
    if found is None:
        raise UnknownOffer(offer_id)
    return found


def price_dates() -> tuple[str, str]:
    """The oldest and the newest date of a price."""
    dates = [offer.as_of for offer in planned_offers()]
    return min(dates), max(dates)


def find_offers(query: str = "", limit: int = 50, cursor: str | None = None) -> OfferPage:
    """Offers whose id, provider, name or device holds every word of `query`, in the order of the file.

    Raises:
        UnknownOffer: `cursor` is no id of an offer.
    """
    words = query.casefold().split()
    offers = list(all_offers())
    start = offers.index(offer(cursor)) + 1 if cursor else 0
    found = [item for item in offers[start:] if all(word in _search_text(item) for word in words)]
    shown = found[: max(1, min(limit, MAXIMUM_PAGE))]
    return OfferPage(tuple(shown), shown[-1].id if len(shown) < len(found) else None)


def _search_text(item: Offer) -> str:
    free = "free" if item.free else "rent"
    return f"{item.id} {item.full_name} {item.device_id or ''} {free}".casefold()
