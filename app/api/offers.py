"""GET /offers: machines for rent and free ones, each price with its date and source."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.catalog import Cursor, Limit, Search
from app.problems import Problem
from planner.catalog.offers import Offer, UnknownOffer, find_offers, offer, price_dates

router = APIRouter(tags=["catalogue"])


class OfferList(BaseModel):
    """A part of the catalogue of offers; the dates of the oldest and the newest price of all."""

    items: list[Offer]
    next: str | None
    prices_as_of: tuple[str, str]


@router.get("/offers", summary="Search the machines for rent and the free ones")
def list_offers(q: Search = "", limit: Limit = 50, cursor: Cursor = None) -> OfferList:
    try:
        page = find_offers(q, limit, cursor)
    except UnknownOffer as error:
        raise Problem(
            "invalid_request", "the list has no such place", field="cursor", value=cursor, accepted="`next` of a page"
        ) from error
    return OfferList(items=list(page.items), next=page.next_cursor, prices_as_of=price_dates())


@router.get("/offers/{offer_id}", summary="One offer with the source of its price")
def get_offer(offer_id: str) -> Offer:
    try:
        return offer(offer_id)
    except UnknownOffer as error:
        raise Problem("unknown_offer", str(error), field="offer_id", value=offer_id) from error
