"""What the allocator holds beyond the peak."""

from __future__ import annotations

from typing import Any

import pytest

from tests.planner.asking import LLAMA_8B, ask, terms

HOLE = 8192 * 128_256 * 2


def beyond_pages(**run: Any) -> tuple[str, int]:
    """The moment of the peak, and what fragmentation holds beside half a page a block."""
    given = ask(
        LLAMA_8B,
        machine={"device": "nvidia-h100-sxm-80gb"},
        allocator="expandable_segments",
        sequence_length=8192,
        **run,
    )
    assert given.memory is not None
    device = given.memory.device
    return device.peak_moment, terms(given)["fragmentation"] - device.peak_allocated_bytes // 64


@pytest.mark.parametrize(
    ("run", "hole"),
    [
        ({"loss": "full_logits"}, HOLE),
        ({"loss": "chunked"}, 0),
        ({"loss": "full_logits", "weights_dtype": "float32", "compute_dtype": "float32"}, 0),
    ],
)
def test_expandable_segments_keep_the_place_of_the_16_bit_logits(run: dict[str, Any], hole: int) -> None:
    assert beyond_pages(method="lora", **run)[1] == hole


def test_a_higher_peak_elsewhere_hides_the_hole() -> None:
    moment, bytes_beyond = beyond_pages(method="full", optimizer_impl="foreach", activation_checkpointing="full")
    assert moment == "optimizer_step"
    assert 0 <= bytes_beyond < HOLE
