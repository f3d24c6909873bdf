from __future__ import annotations

import pytest

from app.assets import assets_directory
from app.web import charts
from planner.contract import EstimateRequest, Memory, Terms
from tests.app.conftest import fake_machine
from tests.app.fakes import fake_estimate


def memory_of(**run: object) -> Memory:
    request = EstimateRequest.model_validate({"model": {"id": "a/b"}, "run": run})
    memory = fake_estimate(request, config={}, machine=fake_machine()).memory
    assert memory is not None
    return memory


@pytest.mark.parametrize("method", ["qlora", "full"])
def test_the_parts_stand_side_by_side_and_end_at_what_is_needed(method: str) -> None:
    memory = memory_of(method=method)
    bar = charts.memory_bar(memory)
    for left, right in zip(bar.segments, bar.segments[1:], strict=False):
        assert left.x + left.width == pytest.approx(right.x)
    end = bar.segments[-1].x + bar.segments[-1].width
    assert end == pytest.approx(bar.required_x)
    assert sum(part.bytes for part in bar.segments) == memory.device.required_bytes
    assert max(end, bar.high_x, bar.total_x) <= charts.WIDTH + 1e-9


def test_terms_of_nothing_are_left_out() -> None:
    assert "communication" not in [part.key for part in charts.memory_bar(memory_of()).segments]


def test_a_higher_moment_is_a_part_of_its_own() -> None:
    memory = memory_of()
    device = memory.device.model_copy(update={"required_bytes": memory.device.required_bytes + 2**30})
    bar = charts.memory_bar(memory.model_copy(update={"device": device}))
    assert (bar.segments[-1].key, bar.segments[-1].bytes) == ("other_moment", 2**30)


def test_one_pool_shows_the_hosts_part() -> None:
    memory = memory_of()
    host = memory.host.model_copy(update={"shared_with_device": True, "terms": {"saving": 2**30}})
    assert "host" in [part.key for part in charts.memory_bar(memory.model_copy(update={"host": host})).segments]


@pytest.mark.parametrize("total_bytes", [1, 2**20, 24 * 2**30, 2**50])
def test_there_are_at_most_seven_ticks(total_bytes: int) -> None:
    memory = memory_of()
    device = memory.device.model_copy(update={"total_bytes": total_bytes})
    assert 1 <= len(charts.memory_bar(memory.model_copy(update={"device": device})).ticks) <= 7


def test_every_term_has_a_label_and_a_colour() -> None:
    css = (assets_directory("static") / "trainfit.css").read_text(encoding="utf-8")
    for term in Terms.model_fields:
        assert charts.TERM_LABELS[term]
        assert f".t-{term} " in css


def test_the_highest_moment_is_marked_once() -> None:
    bars = charts.moment_bars(memory_of().device)
    assert [bar.name for bar in bars if bar.highest] == ["loss"]
    assert all(0 <= bar.width <= charts.WIDTH for bar in bars)
