from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.observed import MAXIMUM_CHARACTERS, Unreadable, read
from planner.units import GB, GIB, MIB
from tests.planner.observed import texts


def test_nvidia_smis_table_tells_our_process_from_the_others() -> None:
    seen = read(texts.NVIDIA_SMI)
    assert seen.sources == ("nvidia-smi",)
    assert (seen.device_used, seen.device_total) == (17_731 * MIB, 24_564 * MIB)
    assert (seen.process, seen.others) == (17_120 * MIB, 567 * MIB)


def test_of_a_summary_the_peaks_are_read() -> None:
    seen = read(texts.SUMMARY)
    assert (seen.allocated, seen.reserved, seen.retries) == (18_841 * MIB, 21_401 * MIB, 2)
    assert not seen.out_of_memory


def test_an_error_names_what_was_there_and_what_was_tried() -> None:
    seen = read(f"Traceback (most recent call last):\n  ...\n{texts.OUT_OF_MEMORY}")
    assert seen.out_of_memory
    assert (seen.allocated, seen.tried) == (int(20.11 * GIB), 2 * GIB)
    assert seen.reserved == int(20.11 * GIB) + int(1.40 * GIB)
    assert seen.process == int(21.98 * GIB)
    assert (seen.device_total, seen.others) == (int(23.64 * GIB), 455 * MIB)


def test_older_releases_say_the_same_in_other_words() -> None:
    seen = read(texts.OLD_OUT_OF_MEMORY)
    assert (seen.allocated, seen.reserved) == (int(14.75 * GIB), int(15.02 * GIB))
    assert (seen.tried, seen.device_total) == (20 * MIB, int(15.90 * GIB))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (texts.AXOLOTL, {"allocated": round(14.21 * GIB), "reserved": round(15.3 * GIB), "seconds_per_step": 1.29}),
        (texts.TORCHTITAN, {"reserved": int(47.21 * GIB), "tokens_per_second": 5762.0}),
        (texts.TRAINER, {"seconds_per_step": 1 / 0.388}),
        (texts.UNSLOTH, {"reserved": int(14.605 * GB)}),
        (texts.LITGPT, {"allocated": int(21.30 * GB)}),
        (
            texts.TORCHTUNE,
            {"allocated": round(16.2 * GIB), "reserved": round(17.4 * GIB), "tokens_per_second": 3083.2},
        ),
    ],
)
def test_trainers_logs(text: str, expected: dict[str, float]) -> None:
    seen = read(text)
    assert {name: getattr(seen, name) for name in expected} == expected


def test_several_texts_in_one_are_read_together() -> None:
    seen = read(texts.SUMMARY + texts.NVIDIA_SMI + texts.AXOLOTL)
    assert len(seen.sources) == 3
    assert (seen.allocated, seen.process) == (18_841 * MIB, 17_120 * MIB)


@pytest.mark.parametrize("text", ["", "hello", "memory: lots", "x" * (MAXIMUM_CHARACTERS + 1), "CUDA out of memory."])
def test_what_says_nothing_is_refused_and_told_what_is_read(text: str) -> None:
    with pytest.raises(Unreadable, match="accepted"):
        read(text)


@given(st.text(max_size=2000))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Unreadable):
        read(text)


@pytest.mark.parametrize(
    "piece",
    ["|    0   N/A  N/A ", "| 1MiB ", "Process 1 has ", "memory: 1", "out of memory. Tried to allocate 1 ", "tps: 1,"],
)
def test_hostile_texts_take_no_time(piece: str) -> None:
    text = (piece * MAXIMUM_CHARACTERS)[:MAXIMUM_CHARACTERS]
    for shaped in (text, "\n".join(text[i : i + 200] for i in range(0, len(text), 200))):
        started = time.monotonic()
        with contextlib.suppress(Unreadable):
            read(shaped)
        assert time.monotonic() - started < 5


def test_in_a_container_the_run_itself_is_not_another_process() -> None:
    """There PyTorch does not know its own number and lists itself as any other process."""
    seen = read(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
        "23.64 GiB of which 0 bytes is free. Process 1234 has 22.50 GiB memory in use. Process 99 has 455.00 MiB "
        "memory in use. Of the allocated memory 20.11 GiB is allocated by PyTorch, and 1.40 GiB is reserved by PyTorch "
        "but unallocated."
    )
    assert (seen.process, seen.others) == (int(22.5 * GIB), 455 * MIB)
    assert seen.device_used == int(23.64 * GIB)
