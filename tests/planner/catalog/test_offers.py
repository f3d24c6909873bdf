"""Every offer names hardware that is known, has a price or a reason, a date and a source."""

from __future__ import annotations

import re

import pytest

from planner.catalog.offers import UnknownOffer, all_offers, find_offers, offer, planned_offers, price_dates
from planner.hardware import device
from planner.version import CATALOG_VERSION


def test_every_offer_is_told_apart_and_has_a_date_and_a_source() -> None:
    ids = [item.id for item in all_offers()]
    assert len(set(ids)) == len(ids) >= 150
    for item in all_offers():
        assert re.fullmatch(r"20\d\d(-\d\d(-\d\d)?)?", item.as_of), item.id
        assert item.as_of <= CATALOG_VERSION, item.id
        assert item.sources, item.id
        assert item.confidence in {"high", "medium", "low"}, item.id


def test_what_can_be_planned_on_has_known_devices_and_a_price() -> None:
    for item in planned_offers():
        assert item.device_id is not None, item.id
        assert item.device_count, item.id
        device(item.device_id)
        assert item.usd_per_hour is not None or item.spot_usd_per_hour is not None, item.id
        assert (item.usd_per_hour == 0) == item.free, item.id


def test_prices_are_what_such_machines_cost() -> None:
    for item in planned_offers():
        if item.usd_per_hour and item.device_count:
            assert 0.1 <= item.usd_per_hour / item.device_count <= 30, item.id
        if item.spot_usd_per_hour and item.usd_per_hour:
            assert item.spot_usd_per_hour < item.usd_per_hour, item.id


def test_free_ones_say_their_limits() -> None:
    for item in planned_offers():
        if item.free:
            assert item.limits, item.id
            assert item.session_hours, item.id


def test_the_others_say_why_not() -> None:
    assert all(item.not_planned for item in all_offers() if item not in planned_offers())
    assert "not for training" in (offer("hugging-face-spaces-zerogpu").not_planned or "")


def test_they_are_found_by_words_and_paged() -> None:
    found = find_offers("kaggle free")
    assert {item.provider for item in found.items} == {"Kaggle"}
    first = find_offers("h100", limit=2)
    second = find_offers("h100", limit=2, cursor=first.next_cursor)
    assert not set(first.items) & set(second.items)
    assert price_dates()[0] < price_dates()[1]


def test_an_unknown_offer_names_what_looks_alike() -> None:
    with pytest.raises(UnknownOffer, match="runpod-rtx-4090-secure"):
        offer("runpod-rtx-4090")
