from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import struct
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from functools import partial

import pytest
import resvg_py
from pydantic import TypeAdapter

from app.assets import assets_directory
from app.reports import export
from app.reports.comparison import compare, summary_of
from app.reports.document import PlanSummary, ReportDocument, Title
from tests.app.reports.test_comparison import answer, comparison, row

FONTS = assets_directory("static") / "fonts"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_the_csv_has_raw_values_and_differences_first() -> None:
    found = comparison(answer(method="full"), answer(method="qlora"), baseline=1)
    lines = list(csv.DictReader(io.StringIO(export.to_csv(found))))
    assert list(lines[0]) == ["group", "key", "label", "unit", "A minus B", "A", "B"]
    required = next(line for line in lines if line["key"] == "required")
    assert int(required["A"]) - int(required["B"]) == int(required["A minus B"]) == 90 * 2**30
    assert {line["key"] for line in lines} >= {row.key for group in found.groups for row in group.rows}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_spreadsheet_computes_nothing_from_a_name(name: str) -> None:
    item = answer()
    found = compare([(summary_of(item, name, name), item)] * 2, 0)
    lines = list(csv.reader(io.StringIO(export.to_csv(found))))
    assert [line[-1] for line in lines if line[1] == "model"] == [f"'{name}"]


def test_the_picture_is_xml_without_style_or_script_whatever_the_title() -> None:
    svg = export.to_svg("</title><script>alert(1)</script> & “Ωß”", comparison(answer(), answer(method="full")), NOON)
    root = ET.fromstring(svg)
    assert root.attrib["width"] == "1200"
    assert not re.search(r"style=|<style|<script|\son\w+=|href", svg)


def test_a_title_loses_what_xml_forbids() -> None:
    title = TypeAdapter(Title).validate_python("a\ufffe\x7f\x85\x00b\U0001f600")
    assert title == "a b\U0001f600"  # U+0085 counts as the end of a line
    ET.fromstring(export.to_svg(title, comparison(answer(), answer(method="full")), NOON))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_picture_as_pixels_is_as_large_as_it_says(count: int) -> None:
    found = comparison(*[answer(method="qlora")] * count)
    width, height = struct.unpack(">II", export.to_png(export.to_svg("Which one?", found, NOON))[16:24])
    assert width == 1200
    assert height >= 630


def test_bars_and_text_are_drawn_where_the_machine_has_no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: take the texts away, then the bars, and there is less each time."""
    monkeypatch.setattr(resvg_py, "svg_to_bytes", partial(resvg_py.svg_to_bytes, skip_system_fonts=True))
    whole = export.to_svg("Which one?", comparison(answer(), answer(method="full")), NOON)
    mute = re.sub(r"<text.*?</text>", "", whole)
    bare = re.sub(r'<rect x="[^>]*/>', "", mute)
    sizes = [len(export.to_png(svg)) for svg in (whole, mute, bare)]
    assert sizes[0] > 2 * sizes[1], "no text was drawn: are the fonts there?"
    assert sizes[1] > 1.1 * sizes[2]
    assert export.to_png(whole).startswith(b"\x89PNG")


def test_the_title_stays_within_the_picture() -> None:
    svg = export.to_svg("W" * 200, comparison(answer(), answer()), NOON)
    (title,) = re.findall(r'font-weight="bold">(W+…)<', svg)
    assert len(title) == 60


def test_the_fonts_are_what_the_manifest_says() -> None:
    entries = json.loads((FONTS / "MANIFEST.json").read_text(encoding="utf-8"))
    assert {entry["file"] for entry in entries} == set(export.FONTS)
    for entry in entries:
        assert hashlib.sha256((FONTS / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert "Bitstream" in (FONTS / "LICENSE.txt").read_text(encoding="utf-8")


def test_the_picture_has_the_colours_of_the_style_sheet() -> None:
    css = (assets_directory("static") / "trainfit.css").read_text(encoding="utf-8")
    assert dict(re.findall(r"\.t-([\w-]+) \{ fill: (#[0-9a-f]{6}); \}", css)) == export.TERM_COLOURS


def document(*verdicts: str, tier: str = "estimate") -> ReportDocument:
    plans = [PlanSummary(model="m", device="d", method="lora", verdict=verdict, tier=tier) for verdict in verdicts]
    return ReportDocument(
        id="i",
        url="/r/i",
        title="",
        notes="",
        baseline=0,
        created_at=NOON,
        edited_at=None,
        plans=plans,
        requests=[],
        answers=[],
        configs=[],
        machines=[],
    )


@pytest.mark.parametrize(
    ("verdicts", "message", "color"),
    [
        (("fits", "fits"), "2 of 2 fit", "brightgreen"),
        (("fits", "does_not_fit"), "1 of 2 fit", "yellow"),
        (("tight", "unsupported"), "0 of 2 fit", "yellow"),
        (("does_not_fit", "not_modelled"), "0 of 2 fit", "red"),
    ],
)
def test_a_badge_counts_what_fits(verdicts: tuple[str, ...], message: str, color: str) -> None:
    badge = export.badge_of(document(*verdicts))
    assert badge.json() == {"schemaVersion": 1, "label": "trainfit · estimate", "message": message, "color": color}
    assert message in badge.svg()
    ET.fromstring(badge.svg())


def test_a_badge_names_the_weakest_evidence() -> None:
    mixed = document("fits", "fits", tier="measured")
    plans = [mixed.plans[0], mixed.plans[1].model_copy(update={"tier": "verified"})]
    assert export.badge_of(mixed.model_copy(update={"plans": plans})).label == "trainfit · verified"


def test_the_markdown_is_one_table() -> None:
    found = comparison(answer(method="full"), answer(method="qlora"))
    report = document("does_not_fit", "fits").model_copy(
        update={"title": "a | b", "notes": "<b>no</b>", "answers": [plan.answer for plan in found.plans]}
    )
    text = export.to_markdown(report, found, "http://here")
    assert text.startswith("# a \\| b\n")
    assert "&lt;b>no" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}
    assert f"| {row(found, 'required').label} | B −90.0 GiB |" in text
