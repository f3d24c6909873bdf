"""Births, deaths and rounding on cases small enough to count by hand."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from planner.verify.scratch import scratch_bytes
from planner.verify.storages import StorageTracker

pytestmark = pytest.mark.slow


def test_a_storage_lives_until_its_last_owner_is_gone() -> None:
    tracker = StorageTracker(512, None)
    with FakeTensorMode(), tracker:
        first = torch.empty(100)
        view = first[:10]
        del first
        assert tracker.deltas == [512]
        del view
    assert tracker.deltas == [512, -512]


def test_a_view_and_an_in_place_operation_are_no_births() -> None:
    tracker = StorageTracker(1, None)
    with FakeTensorMode(), tracker:
        tensor = torch.empty(8, 8)
        tensor.t().add_(1).mul_(2)
    assert [record.bytes for record in tracker.records] == [256]


def test_bytes_are_rounded_as_the_allocator_does() -> None:
    tracker = StorageTracker(512, None)
    assert [tracker.rounded(size) for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_a_forgotten_storage_leaves_the_curve() -> None:
    tracker = StorageTracker(1, None)
    with FakeTensorMode(), tracker:
        tensor = torch.empty(4)
        record = tracker.register(tensor)
        assert record is not None
        tracker.forget(record)
        del tensor
    assert tracker.deltas == [0, 0]


def test_flash_backward_scratch_counts_the_accumulator_and_the_expanded_heads() -> None:
    with FakeTensorMode():
        grad = query = torch.empty(1, 8, 100, 48, dtype=torch.bfloat16)
        key = torch.empty(1, 2, 100, 48, dtype=torch.bfloat16)
        size = scratch_bytes("_scaled_dot_product_flash_attention_backward", (grad, query, key), None, "cuda")
    assert size == 4 * 8 * 128 * (1 + 64) + 2 * 8 * 100 * 48 * 2


def test_the_cpu_copies_an_operand_to_promote_it() -> None:
    with FakeTensorMode():
        half, full = torch.empty(10, dtype=torch.bfloat16), torch.empty(10)
        assert scratch_bytes("add", (half, full), half + full, "cpu") == 40
        assert scratch_bytes("add", (half, full), half + full, "cuda") == 0
