"""`python -m benchmarks.pairwise [--cases 500] [--processes 2] [--to results.jsonl]`: compares, prints the tables.

With `--to`, each case is written down as it is found, and a later call goes on where this one was cut off.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from benchmarks.pairwise.cases import KNOBS, Case, is_admitted, knobs, sample
from benchmarks.pairwise.compare import Compared, compared_or_refused, pool
from benchmarks.pairwise.tables import by_knob, refusals, summary, worst_rows

CASES = 500
AT_ONCE = 16


def key(case: Case) -> str:
    """What tells one case from another."""
    return json.dumps(case, sort_keys=True)


def kept(path: Path | None) -> dict[str, Compared]:
    """What an earlier call found."""
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    rows = [Compared(**json.loads(line)) for line in lines]
    return {key(row.case): row for row in rows}


def run(cases: Iterator[Case], known: dict[str, Compared], options: argparse.Namespace) -> Iterator[Compared]:
    """The comparisons in the sample's order; none begins after the time is over."""
    began, left = time.perf_counter(), options.cases
    with pool(options.processes) as workers:
        while left > 0 and time.perf_counter() - began < options.seconds:
            batch = list(islice(cases, min(left, AT_ONCE)))
            left -= len(batch)
            found = workers.map(compared_or_refused, [case for case in batch if key(case) not in known])
            for row in found:
                known[key(row.case)] = row
                write_down(row, options.to)
            yield from (known[key(case)] for case in batch)


def write_down(row: Compared, path: Path | None) -> None:
    """Says what was found, and keeps it."""
    print(said(row), file=sys.stderr, flush=True)
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def said(row: Compared) -> str:
    """One line of progress."""
    values = ", ".join(map(str, row.case.values()))
    return f"{row.refused or format(row.off('peak'), '+8.2%')} {row.seconds:5.1f} s {values}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seconds", type=float, default=900, help="the time after which no further case begins")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--to", type=Path, help="a file that keeps each case, and that a later call goes on from")
    parser.add_argument("--family", help="only this model type")
    parser.add_argument("--worst", type=int, default=20, help="rows of the worst cases")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    known = kept(options.to)
    cases = sample(knobs(options.family), lambda case: key(case) in known or is_admitted(case))
    rows = list(run(cases, known, options))
    refused, found = [row for row in rows if row.refused], [row for row in rows if not row.refused]
    print(f"{len(found)} cases compared, {len(refused)} refused, {time.perf_counter() - began:.0f} s\n")
    if found:
        tables = (summary(found), by_knob(found, list(KNOBS)), worst_rows(found, options.worst))
        print("\n".join(line for table in tables for line in [*table, ""]))
    print("\n".join(refusals(refused)))


if __name__ == "__main__":
    main(sys.argv[1:])
