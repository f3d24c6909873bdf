"""`trainfit models`: search the catalogue of models."""

from __future__ import annotations

import argparse

from app.cli.console import Console

EPILOG = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look for."""
    parser.add_argument("query", nargs="*", help="words that must occur in the id or the family")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """List the models that match."""
    from app.api.catalog import MAXIMUM_PAGE, summarise_model
    from planner.catalog.models import find_models
    from planner.units import format_count

    query, cursor, found = " ".join(arguments.query), None, 0
    while True:
        page = find_models(query, MAXIMUM_PAGE, cursor)
        for entry in page.items:
            found += 1
            if arguments.json:
                console.write(summarise_model(entry).model_dump_json())
            else:
                console.write(f"{format_count(entry.size):>8}  {entry.id}")
        cursor = page.next_cursor
        if cursor is None:
            break
    if not found:
        console.complain(f"no model of the catalogue matches {query!r}; any model works from its config.json")
    return 0 if found else 2
