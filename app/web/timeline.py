"""The memory timeline as a drawing, as rows and as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.web.charts import TERM_LABELS
from planner.contract import Answer, DeviceMemory, Timeline

SIDE: Final = 1000
"""Width and height of the drawing in its own units; it is stretched to its place."""
NARROWEST_SPAN: Final = 0.09
"""Part of the width that each span has at least, so that the loss, a few births long, can be seen and read."""
HEADROOM: Final = 1.06


@dataclass(frozen=True, slots=True)
class Area:
    """One term, stacked on those before."""

    key: str
    label: str
    path: str


@dataclass(frozen=True, slots=True)
class Band:
    """One moment of the step, in percent of the width."""

    name: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class TimelineChart:
    """What the template draws; x and y in percent where they are no paths."""

    areas: Sequence[Area]
    bands: Sequence[Band]
    reserved_path: str
    ticks: Sequence[tuple[float, str]]
    usable_y: float | None
    peak_x: float
    peak_y: float
    data: str


def memory_chart(answer: Answer) -> TimelineChart | None:
    """The drawing of an answer's timeline, where it has one."""
    timeline = answer.evidence.timeline
    return timeline_chart(timeline, answer.memory.device) if timeline and answer.memory else None


def timeline_chart(timeline: Timeline, device: DeviceMemory) -> TimelineChart:
    """The drawing: one scale of bytes from 0, moments as bands that are at least readable."""
    usable_bytes = device.usable_bytes - device.terms.outside_allocator
    highest = max([*timeline.allocated_bytes, *timeline.reserved_bytes, 1])
    near = 0 < usable_bytes <= 1.5 * highest
    top = HEADROOM * max(highest, usable_bytes if near else 0)
    bands = bands_of(timeline)
    across = [place(timeline, bands, instant) for instant in timeline.instants]
    peak = max(timeline.peaks, key=lambda peak: peak.bytes)
    stacked = [0] * len(across)
    areas: list[Area] = []
    for key, values in timeline.terms.items():
        below, stacked = stacked, [a + b for a, b in zip(stacked, values, strict=True)]
        areas.append(Area(key, TERM_LABELS[key], area_path(across, below, stacked, top)))
    return TimelineChart(
        areas=areas,
        bands=bands,
        reserved_path=steps(across, timeline.reserved_bytes, top) if timeline.reserved_bytes else "",
        ticks=ticks(top),
        usable_y=100 - usable_bytes / top * 100 if near else None,
        peak_x=place(timeline, bands, peak.instant),
        peak_y=100 - peak.bytes / top * 100,
        data=chart_data(timeline, bands, across, usable_bytes if near else None),
    )


def bands_of(timeline: Timeline) -> list[Band]:
    """Widths by number of instants, but for what `NARROWEST_SPAN` takes; all widths add up to 100."""
    narrowest = min(NARROWEST_SPAN, 1 / (2 * len(timeline.spans)))
    rest = 1 - narrowest * len(timeline.spans)
    bands: list[Band] = []
    x = 0.0
    for span in timeline.spans:
        width = 100 * (narrowest + rest * (span.end - span.first) / timeline.instant_count)
        bands.append(Band(span.moment, x, width))
        x += width
    return bands


def place(timeline: Timeline, bands: Sequence[Band], instant: int) -> float:
    """Where the instant stands, in percent of the width."""
    pairs = zip(timeline.spans, bands, strict=True)
    span, band = next((span, band) for span, band in pairs if instant < span.end)
    return band.x + band.width * (instant - span.first) / (span.end - span.first)


def area_path(across: Sequence[float], below: Sequence[int], above: Sequence[int], top: float) -> str:
    """The area between two stepped lines."""
    indices = range(len(across) - 2, -1, -1)
    back = [f"H{across[index + 1] * SIDE / 100:.0f}V{height(below[index], top)}" for index in indices]
    return f"{steps(across, above, top)}V{height(below[-1], top)}{''.join(back)}H0Z"


def steps(across: Sequence[float], values: Sequence[int], top: float) -> str:
    """A stepped line over the whole width: each value holds until the next instant."""
    parts = [f"M0 {height(values[0], top)}"]
    for x, value in zip(across[1:], values[1:], strict=True):
        parts.append(f"H{x * SIDE / 100:.0f}V{height(value, top)}")
    return f"{''.join(parts)}H{SIDE}"


def height(size: int, top: float) -> str:
    """A number of bytes as a place in the drawing, from above."""
    return f"{SIDE - size / top * SIDE:.0f}"


def ticks(top: float) -> list[tuple[float, str]]:
    """At most six round marks, in percent from above."""
    gib = 2**30
    step = next(base * 10**power for power in range(-3, 7) for base in (1, 2, 5) if top / gib / (base * 10**power) <= 6)
    return [(100 - mark * step * gib / top * 100, f"{mark * step:,g}") for mark in range(int(top / gib / step) + 1)]


def chart_data(timeline: Timeline, bands: Sequence[Band], across: Sequence[float], usable: int | None) -> str:
    """What timeline.js reads, as JSON that may stand inside a page."""
    data = {
        "across": [round(x, 4) for x in across],
        "bands": [[band.name, round(band.x, 4), round(band.x + band.width, 4)] for band in bands],
        "instants": timeline.instants,
        "modules": timeline.modules,
        "operations": timeline.operations,
        "allocated": timeline.allocated_bytes,
        "reserved": timeline.reserved_bytes,
        "usable": usable,
        "terms": [[key, TERM_LABELS[key], values] for key, values in timeline.terms.items()],
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def timeline_csv(timeline: Timeline) -> str:
    """One row for each instant."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    held = ["reserved_bytes"] if timeline.reserved_bytes else []
    terms = [f"{term}_bytes" for term in timeline.terms]
    writer.writerow(["instant", "moment", "module", "operation", "allocated_bytes", *held, *terms])
    for index, instant in enumerate(timeline.instants):
        moment = next(span.moment for span in timeline.spans if instant < span.end)
        row = [instant, moment, timeline.modules[index], timeline.operations[index], timeline.allocated_bytes[index]]
        row += [timeline.reserved_bytes[index]] if held else []
        writer.writerow([*row, *(values[index] for values in timeline.terms.values())])
    return text.getvalue()
