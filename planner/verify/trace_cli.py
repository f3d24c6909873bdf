"""`python -m planner.verify.trace_cli config.json --method lora ...`: what is alive at the peak of a training step."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from planner.verify.allocator import Kind, replay
from planner.verify.settings import TraceSettings
from planner.verify.timeline import TERMS, LiveGroup, Trace

MIB = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the moments and the table of live storages at the peak (or at another moment's peak)."""
    options = parser().parse_args(arguments)
    config = json.loads(Path(options.config).read_text())
    from planner.verify.trace import trace_step

    trace = trace_step(config, settings_of(options))
    instant = trace.moment_peaks()[options.at] if options.at else trace.peak_instant
    print(heading(trace))
    print(reserved_line(trace))
    print(moment_table(trace))
    print(live_table(trace, instant, options.rows))
    return 0


def parser() -> argparse.ArgumentParser:
    """One option for each field of TraceSettings."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("config", help="a model's config.json")
    made.add_argument("--at", help="show another moment's peak: forward, loss, backward or optimizer_step")
    made.add_argument("--rows", type=int, default=60, help="rows of the table of live storages")
    for field in fields(TraceSettings):
        name = "--" + field.name.replace("_", "-")
        made.add_argument(name, type=converter(field.default), default=field.default)
    return made


def converter(default: Any) -> Callable[[str], Any]:
    """How an option's text becomes the field's value."""
    if isinstance(default, bool):
        return lambda text: text.lower() in ("1", "true", "yes")
    if default is None:
        return lambda text: int(text) if text.isdigit() else text
    return int if isinstance(default, int) else float if isinstance(default, float) else str


def settings_of(options: argparse.Namespace) -> TraceSettings:
    """The settings that the options name; a comma in target_modules makes it a list."""
    values = {field.name: getattr(options, field.name) for field in fields(TraceSettings)}
    if "," in values["target_modules"]:
        values["target_modules"] = tuple(values["target_modules"].split(","))
    return TraceSettings(**values)


def heading(trace: Trace) -> str:
    """The peak in one line."""
    return (
        f"peak {trace.peak_bytes:,} bytes ({trace.peak_bytes / MIB:,.1f} MiB) at {trace.peak_moment}, "
        f"in {trace.peak_module or 'no module'} ({trace.instants[trace.peak_instant].op}); "
        f"{trace.layers} layers, traced in {trace.seconds:.2f} s"
    )


def reserved_line(trace: Trace) -> str:
    """What the allocator of the target holds for the peak: PyTorch's two on CUDA, glibc on a CPU."""
    kinds: tuple[Kind, ...] = ("resident",) if trace.settings.target == "cpu" else ("native", "expandable_segments")
    results = {kind: replay(trace.events, kind=kind, steady_from=trace.first) for kind in kinds}
    held = ", ".join(f"{result.peak_reserved_bytes / MIB:,.1f} MiB ({kind})" for kind, result in results.items())
    return f"reserved {held}"


def moment_table(trace: Trace) -> str:
    """Each moment's highest instant, by term, in bytes."""
    header = f"{'moment':<16}{'live bytes':>18}" + "".join(f"{term:>18}" for term in TERMS) + "  module"
    lines = [header]
    for moment, instant in trace.moment_peaks().items():
        terms = trace.bytes_by_term(instant)
        cells = "".join(f"{terms[term]:>18,}" for term in TERMS)
        where = trace.instants[instant]
        lines.append(f"{moment:<16}{trace.live_bytes[instant]:>18,}{cells}  {where.module} ({where.op})")
    return "\n".join(lines)


def live_table(trace: Trace, instant: int, rows: int) -> str:
    """The live storages, largest group first."""
    where = trace.instants[instant]
    groups = trace.live_at(instant)
    lines = [f"\nalive after event {instant} ({where.moment}, {where.module}, {where.op}):"]
    lines.append(f"{'bytes':>18} {'each':>16} {'count':>6}  {'term':<17}{'dtype':<9}{'shape':<24}op, module")
    lines += [live_row(group) for group in groups[:rows]]
    rest = groups[rows:]
    if rest:
        lines.append(f"{sum(group.bytes for group in rest):>18,} in {len(rest)} more rows")
    return "\n".join(lines)


def live_row(group: LiveGroup) -> str:
    """One row of the table."""
    shape = "x".join(map(str, group.shape)) or "scalar"
    note = f"  [{group.note}]" if group.note else ""
    return (
        f"{group.bytes:>18,} {group.bytes_each:>16,} {group.count:>6}  {group.term:<17}{group.dtype:<9}{shape:<24}"
        f"{group.op}, {group.module}{note}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
