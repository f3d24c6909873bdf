from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.units import (
    GB,
    GIB,
    MAX_BYTES,
    MIB,
    format_bytes,
    format_count,
    format_seconds,
    gib_to_bytes,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24GiB", 24 * GIB),
        ("24 GB", 24 * GB),
        ("  1.5 gib ", 3 * GIB // 2),
        ("0.5MiB", MIB // 2),
        ("512", 512),
        ("512 B", 512),
        ("7 bytes", 7),
        ("1 TB", 10**12),
        ("0", 0),
        ("0.0001 KB", 0),
    ],
)
def test_sizes_that_people_write(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "GiB",
        "-1 GiB",
        "+1",
        "24G",
        "24 M",
        "1e9",
        "nan",
        "inf",
        "1,024",
        "1 GiB 2",
        "1.",
        ".5 GB",
        "0x10",
        "٣ GiB",
    ],
)
def test_nonsense_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="give a number of bytes"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "99999999 TiB", "9" * 24 + " TB"])
def test_more_than_a_signed_64_bit_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"2\*\*63"):
        parse_size(text)


def test_a_very_long_text_is_neither_parsed_nor_repeated() -> None:
    with pytest.raises(ValueError, match="not a size") as caught:
        parse_size("9" * 10**6)
    assert len(str(caught.value)) < 200


@given(st.text(max_size=30))
def test_any_text_gives_a_size_or_a_value_error(text: str) -> None:
    try:
        size_bytes = parse_size(text)
    except ValueError:
        return
    assert 0 <= size_bytes <= MAX_BYTES


@given(st.integers(0, MAX_BYTES))
def test_bytes_survive_a_round_trip(size_bytes: int) -> None:
    assert parse_size(f"{size_bytes} B") == size_bytes


@given(st.integers(0, 2**40 // GIB * 1000))
def test_binary_is_never_smaller_than_decimal(count: int) -> None:
    assert parse_size(f"{count} GiB") >= parse_size(f"{count} GB")


@given(st.integers(-(2**62), 2**62))
def test_printed_bytes_parse_back_to_within_the_printed_digit(size_bytes: int) -> None:
    text = format_bytes(abs(size_bytes)).replace(",", "")
    assert abs(parse_size(text) - abs(size_bytes)) <= max(1, abs(size_bytes) * 0.051)
    assert format_bytes(size_bytes).startswith("-") == (size_bytes < 0)


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3_328_599_654, "3.1 GiB"),
        (-MIB, "-1.0 MiB"),
        (2**40, "1,024.0 GiB"),
        (2**20 - 1, "1.0 MiB"),
    ],
)
def test_bytes_are_printed_in_binary_units(size_bytes: int, expected: str) -> None:
    assert format_bytes(size_bytes) == expected


@pytest.mark.parametrize("gib", [-0.1, float("nan"), float("inf"), 2.0**40])
def test_gib_that_are_no_size_are_refused(gib: float) -> None:
    with pytest.raises(ValueError, match="GiB is not a size"):
        gib_to_bytes(gib)


def test_gib_become_whole_bytes() -> None:
    assert gib_to_bytes(0.1) == round(0.1 * GIB)
    assert gib_to_bytes(64) == 64 * GIB


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0123, "12.3 ms"),
        (1.5, "1.5 s"),
        (200, "3 min 20 s"),
        (32_700, "9 h 05 min"),
        (90_000, "1 d 01 h"),
        (59.96, "60 s"),
        (86_400_000, "1,000 d 00 h"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(8_030_261_248, "8.03 B"), (560_664_958_976, "561 B"), (124_439_808, "124 M"), (512, "512"), (46_600, "46.6 K")],
)
def test_counts_keep_three_digits(count: int, expected: str) -> None:
    assert format_count(count) == expected
