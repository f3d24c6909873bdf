"""`trainfit devices`: search the catalogue of devices."""

from __future__ import annotations

import argparse

from app.cli.console import Console
from planner.hardware import DeviceProfile
from planner.units import GIB

EPILOG = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look for."""
    parser.add_argument("query", nargs="*", help="words that must occur in the id, the name or the vendor")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """List the devices that match."""
    from app.api.catalog import MAXIMUM_PAGE, summarise_device
    from app.web.numbers import gib
    from planner.hardware import find_devices

    query, cursor, found = " ".join(arguments.query), None, 0
    while True:
        page = find_devices(query, limit=MAXIMUM_PAGE, cursor=cursor)
        for item in page.items:
            found += 1
            if arguments.json:
                console.write(summarise_device(item).model_dump_json())
            else:
                total_bytes = item.memory_total_bytes
                memory = "host's" if total_bytes is None else gib(total_bytes - item.system_reserved_bytes)
                console.write(f"{memory:>12}  {item.id:<36}  {item.display_name}{_sizes(item)}")
        cursor = page.next_cursor
        if cursor is None:
            break
    if not found:
        console.complain(
            f"no device of the catalogue matches {query!r}; give its figures with --custom-device-memory-gib"
        )
    return 0 if found else 2


def _sizes(item: DeviceProfile) -> str:
    """The sizes of memory that a device is sold with, where there are several: the listed one is the largest's."""
    sizes = [str(option // GIB) for option in item.memory_options_bytes]
    return f", the largest of {', '.join(sizes)} GiB" if len(sizes) > 1 else ""
