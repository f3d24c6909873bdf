"""`trainfit offers`: search the machines for rent and the free ones."""

from __future__ import annotations

import argparse

from app.cli.console import Console
from planner.catalog.offers import MAXIMUM_PAGE, Offer, find_offers

EPILOG = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look for."""
    parser.add_argument(
        "query", nargs="*", help="words that must occur in the id, the provider, the name or the device"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """List the offers that match, with the date of each price."""
    from pydantic import TypeAdapter

    page = find_offers(" ".join(arguments.query), limit=MAXIMUM_PAGE)
    document = TypeAdapter(Offer)
    for item in page.items:
        if arguments.json:
            console.write(document.dump_json(item).decode())
        else:
            devices = f"{item.device_count} x {item.device_id}" if item.device_id else "no device of the catalogue"
            mark = "" if item.not_planned is None else f"  (not to plan on: {item.not_planned})"
            console.write(f"{price_of(item):>12}  {item.as_of:<10}  {item.id:<44}  {devices}{mark}")
    if not page.items:
        console.complain(f"no offer of the catalogue matches {' '.join(arguments.query)!r}")
    return 0 if page.items else 2


def price_of(item: Offer) -> str:
    """The price of an hour in words."""
    if item.free:
        return "free"
    price = item.usd_per_hour if item.usd_per_hour is not None else item.spot_usd_per_hour
    if price is None:
        return "no price"
    return f"${price:,.2f}/h" + (" spot" if item.usd_per_hour is None else "")
