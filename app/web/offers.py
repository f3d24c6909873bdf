"""The page of offers, and the offers that run a plan as the result page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app.problems import Problem
from app.web import address
from planner.catalog.offers import Offer, UnknownOffer, all_offers, find_offers, price_dates
from planner.rental import Rental

router = APIRouter(include_in_schema=False)
SHOWN = 60


@dataclass(frozen=True, slots=True)
class RentalRow:
    """An offer that runs the plan, with the address of the plan on it."""

    rental: Rental
    href: str
    note: str


def rental_of(rental: Rental, config_hash: str | None) -> RentalRow:
    """A row of the table of offers under a plan; its note says how the provider's limits cut the run."""
    sessions = None if rental.costs is None else rental.costs.sessions
    note = sessions.message if sessions else rental.offer.limits or ""
    kept = config_hash if rental.request.model.config is not None else None
    return RentalRow(rental, f"/plan?{address.query(rental.request, kept)}", note)


def price_words(offer: Offer) -> str:
    """The price of an hour on demand."""
    if offer.free:
        return "free"
    return "—" if offer.usd_per_hour is None else f"${offer.usd_per_hour:,.2f}"


@router.get("/offers")
def offers_page(request: Request, q: str = "", cursor: str | None = None) -> HTMLResponse:
    """The catalogue of offers."""
    from app.web.pages import site_page

    try:
        found = find_offers(q[:200], SHOWN, cursor)
    except UnknownOffer as error:
        raise Problem("not_found", "the list has no such place", field="cursor", value=cursor) from error
    return site_page(
        request,
        "offers.html",
        page=found,
        q=q[:200],
        total=len(all_offers()),
        price_words=price_words,
        prices_as_of=price_dates(),
    )
