from __future__ import annotations

from typing import Any

import pytest

from app.web import numbers

GIB = 2**30


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0.00 GiB"),
        (1, "<0.01 GiB"),
        (GIB, "1.00 GiB"),
        (10 * GIB, "10.0 GiB"),
        (1500 * GIB, "1,500 GiB"),
        (-2 * GIB, "−2.00 GiB"),
    ],
)
def test_sizes_are_always_gib(size_bytes: int, text: str) -> None:
    assert numbers.gib(size_bytes) == text


def test_the_exact_bytes_stand_in_the_tooltip() -> None:
    assert str(numbers.size(3 * GIB)) == '<data value="3221225472" title="3,221,225,472 bytes">3.00 GiB</data>'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (None, "—"),
        (2048, "2,048"),
        (["a", "b"], "a, b"),
        ({"rank": 16}, "rank 16"),
        ({"a": {"b": False}}, "a b no"),
        ("x", "x"),
        (0.5, "0.5"),
    ],
)
def test_values_as_words(value: Any, text: str) -> None:
    assert numbers.plain(value) == text


def test_a_text_cannot_break_out_of_markdown() -> None:
    assert numbers.cell("a|b\nc <script>") == "a\\|b c &lt;script>"


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (1.0, "as fast"),
        (1.001, "as fast"),
        (1.33, "takes 33 % longer"),
        (1.02, "takes 2.0 % longer"),
        (0.75, "takes 25 % less time"),
        (2.46, "takes 2.5 times as long"),
    ],
)
def test_a_factor_of_time_as_words(factor: float, text: str) -> None:
    assert numbers.pace(factor) == text
