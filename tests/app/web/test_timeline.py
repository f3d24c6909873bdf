"""The geometry of the memory timeline, and what is vendored for it."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise

import pytest

from app.assets import assets_directory
from app.web import timeline
from planner.contract import DeviceMemory
from tests.app.fakes import GIB, TIMELINE
from tests.app.web.test_charts import memory_of


def device(usable_bytes: int = 24 * GIB) -> DeviceMemory:
    return memory_of().device.model_copy(update={"usable_bytes": usable_bytes})


def test_bands_fill_the_width_and_each_can_be_seen() -> None:
    bands = timeline.bands_of(TIMELINE)
    assert [band.name for band in bands] == ["forward", "loss", "backward", "optimizer_step"]
    assert bands[-1].x + bands[-1].width == pytest.approx(100)
    for left, right in pairwise(bands):
        assert left.x + left.width == pytest.approx(right.x)
    assert min(band.width for band in bands) >= 9


def test_the_areas_stack_up_to_what_lives() -> None:
    chart = timeline.timeline_chart(TIMELINE, device())
    top = 1.06 * 15 * GIB
    heights = [int(value) for value in re.findall(r"V(\d+)", timeline.steps(range(9), TIMELINE.allocated_bytes, top))]
    drawn = [int(value) for value in re.findall(r"V(\d+)", chart.areas[-1].path)][: len(heights)]
    assert drawn == heights
    assert chart.peak_y == pytest.approx(100 - 14 / 15 / 1.06 * 100)
    assert all(area.path.endswith("Z") for area in chart.areas)


def test_what_is_usable_is_drawn_where_it_is_near() -> None:
    assert timeline.timeline_chart(TIMELINE, device(16 * GIB)).usable_y is not None
    assert timeline.timeline_chart(TIMELINE, device(80 * GIB)).usable_y is None


def test_what_is_vendored_is_what_the_manifest_says() -> None:
    folder = assets_directory("static") / "uplot"
    entries = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
    assert {entry["file"] for entry in entries} | {"MANIFEST.json", "LICENSE.txt"} == {p.name for p in folder.iterdir()}
    for entry in entries:
        assert entry["licence"] == "MIT"
        assert hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
