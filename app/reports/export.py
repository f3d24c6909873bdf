"""A comparison as CSV, Markdown, SVG, PNG and as a badge."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from app.assets import assets_directory
from app.reports.comparison import Comparison
from app.reports.document import ReportDocument, ReportSummary
from app.reports.rows import Value
from app.web.charts import Bar, Segment
from app.web.templating import render

CSV_TYPE: Final = "text/csv; charset=utf-8"
MARKDOWN_TYPE: Final = "text/markdown"
SVG_TYPE: Final = "image/svg+xml"
PNG_TYPE: Final = "image/png"

WIDTH: Final = 1200
MARGIN: Final = 48
BAR_WIDTH: Final = WIDTH - 2 * MARGIN
ROW_HEIGHT: Final = 96
ROOMY_ROW_HEIGHT: Final = 124
TOP: Final = 128
FOOT: Final = 130
LEAST_HEIGHT: Final = 630
"""Of the width above, the form in which links are previewed."""

_TITLE_SIGNS: Final = 60
"""Of 27 px bold, in the width of the bars."""

FONTS: Final = ("DejaVuSans.subset.ttf", "DejaVuSans-Bold.subset.ttf")

_SPREADSHEET_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def to_csv(comparison: Comparison) -> str:
    """One line for each row; bytes, seconds and other numbers as they are, the differences first."""
    letters = [plan.letter for plan in comparison.plans]
    others = [letter for letter in letters if letter != letters[comparison.baseline]]
    base = letters[comparison.baseline]
    lines: list[list[Any]] = [
        ["group", "key", "label", "unit", *(f"{letter} minus {base}" for letter in others), *letters],
        ["", "name", "Plan", "text", *("" for _ in others), *(plan.name for plan in comparison.plans)],
        ["", "model", "Model", "text", *("" for _ in others), *(plan.model for plan in comparison.plans)],
        ["", "device", "Machine", "text", *("" for _ in others), *(plan.device for plan in comparison.plans)],
    ]
    for group in comparison.groups:
        for row in group.rows:
            values = [cell.value for cell in row.cells]
            differences = [
                _minus(value, values[comparison.baseline])
                for index, value in enumerate(values)
                if index != comparison.baseline
            ]
            lines.append([group.label, row.key, row.label, row.unit, *differences, *values])
    return _csv(lines)


def _minus(value: Value, base: Value) -> float | None:
    return value - base if isinstance(value, int | float) and isinstance(base, int | float) else None


def list_to_csv(reports: Sequence[ReportSummary]) -> str:
    """One line for each plan of each report."""
    head = ["report", "url", "title", "created_at", "plan", "model", "device", "method", "verdict", "tier"]
    lines = [
        [report.id, report.url, report.title, report.created_at.isoformat(), number, *plan.model_dump().values()]
        for report in reports
        for number, plan in enumerate(report.plans)
    ]
    return _csv([head, *lines])


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_harmless(value) for value in line] for line in lines)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe, as OWASP advises on CSV injection."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_SPREADSHEET_FORMULA) else value


def to_markdown(document: ReportDocument, comparison: Comparison, base_address: str | None) -> str:
    """For issues and model cards. Without the server's address there is no link, only the report's id."""
    return render("report.markdown", report=document, comparison=comparison, base_address=base_address)


@dataclass(frozen=True, slots=True)
class DrawnBar:
    """One plan's bar in the picture, in its units."""

    y: int
    bar: Bar | None
    factor: float

    def x(self, percent: float) -> float:
        """Where a place of the bar, in percent of its width, is."""
        return MARGIN + percent * self.factor


def to_svg(title: str, comparison: Comparison, computed: datetime) -> str:
    """A picture that stands for itself: every plan's memory on one scale. It uses no style sheet."""
    room = (LEAST_HEIGHT - TOP - FOOT) // len(comparison.bars)
    row_height = min(max(room, ROW_HEIGHT), ROOMY_ROW_HEIGHT)
    drawn = [DrawnBar(TOP + index * row_height, bar, BAR_WIDTH / 100) for index, bar in enumerate(comparison.bars)]
    bottom = TOP + len(drawn) * row_height
    scale = next((bar for bar in comparison.bars if bar), None)
    return render(
        "report.svg",
        title=title if len(title) <= _TITLE_SIGNS else title[: _TITLE_SIGNS - 1] + "…",
        comparison=comparison,
        drawn=drawn,
        legend=_legend(comparison),
        ticks=scale.ticks if scale else [],
        bottom=bottom,
        width=WIDTH,
        margin=MARGIN,
        bar_width=BAR_WIDTH,
        height=max(LEAST_HEIGHT, bottom + FOOT),
        colours=TERM_COLOURS,
        tones=TONE_COLOURS,
        computed=computed,
        version=comparison.plans[0].answer.estimator_version,
    )


def _legend(comparison: Comparison) -> list[Segment]:
    """The terms that occur, each once, biggest in sum first."""
    found: dict[str, Segment] = {}
    sums: dict[str, int] = {}
    for bar in comparison.bars:
        for segment in bar.segments if bar else ():
            found.setdefault(segment.key, segment)
            sums[segment.key] = sums.get(segment.key, 0) + segment.bytes
    return sorted(found.values(), key=lambda segment: -sums[segment.key])


TERM_COLOURS: Final = {
    "weights": "#2f66ad",
    "adapters": "#5fa3e6",
    "quantization_state": "#a5cbf2",
    "gradients": "#6b3fa0",
    "optimizer_states": "#a273d1",
    "master_weights": "#d2b6ec",
    "activations": "#158467",
    "logits_and_loss": "#e0801a",
    "temporaries": "#e3bd4d",
    "communication": "#c9507a",
    "fragmentation": "#a3a6aa",
    "outside_allocator": "#6b7076",
    "host": "#4b8797",
    "other_moment": "#8c5a4a",
}
"""The style sheet's colours again, because a picture has none; a test holds the two together."""

TONE_COLOURS: Final = {"yes": "#17693f", "maybe": "#7d5200", "no": "#a3231c", "unknown": "#4d535b"}


def to_png(svg: str) -> bytes:
    """The picture as pixels. The fonts come with us: a server in a container has none."""
    import resvg_py

    folder = assets_directory("static") / "fonts"
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            background="#ffffff",
            font_files=[str(folder / name) for name in FONTS],
            sans_serif_family="DejaVu Sans",
            font_family="DejaVu Sans",
        )
    )


_BADGE_COLOURS: Final = {"yes": ("#17693f", "brightgreen"), "maybe": ("#7d5200", "yellow"), "no": ("#a3231c", "red")}


@dataclass(frozen=True, slots=True)
class Badge:
    """What a badge says: the evidence on the left, the verdicts on the right."""

    label: str
    message: str
    tone: str

    def json(self) -> dict[str, Any]:
        """In the form that badge services read ("endpoint" of shields)."""
        return {
            "schemaVersion": 1,
            "label": self.label,
            "message": self.message,
            "color": _BADGE_COLOURS[self.tone][1],
        }

    def svg(self) -> str:
        """The badge as a picture. Widths are those of 11 px DejaVu Sans, about 6.6 px a sign."""
        left, right = (round(len(text) * 6.6) + 12 for text in (self.label, self.message))
        return render("badge.svg", badge=self, left=left, right=right, colour=_BADGE_COLOURS[self.tone][0])


_TIERS: Final = ("estimate", "verified", "measured")


def badge_of(document: ReportDocument) -> Badge:
    """How many of a report's plans fit, on the weakest evidence among them."""
    weakest = min((plan.tier for plan in document.plans), key=_TIERS.index)
    fitting = sum(plan.verdict == "fits" for plan in document.plans)
    able = fitting + sum(plan.verdict == "tight" for plan in document.plans)
    tone = "yes" if fitting == len(document.plans) else "maybe" if able else "no"
    return Badge(f"trainfit · {weakest}", f"{fitting} of {len(document.plans)} fit", tone)
