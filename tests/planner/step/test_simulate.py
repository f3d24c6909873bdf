"""A tape played forward and backward, on cases small enough to work out by hand."""

from __future__ import annotations

from planner.step.simulate import BlockProfile, Live, prune, simulate
from planner.step.sizes import TOKENS
from planner.step.tape import Tape, Value


def bytes_of(live: Live) -> int:
    """Bytes at one token."""
    return sum(kind.bytes.at({"b": 1, "s": 1, "r": 1}) * count for kind, count in live.items())


def profile(tape: Tape, x: Value, y: Value, **options: bool) -> BlockProfile:
    return simulate(
        tape, (x,), (y,), accumulate=options.get("accumulate", False), stop_early=options.get("early", False)
    )


def test_an_activation_keeps_its_input_and_backward_frees_it() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 2, True)
    result = profile(tape, x, tape.unary("silu", x, "input"))
    assert bytes_of(result.saved) == 20
    # Backward holds the kept input, the incoming gradient and the new one.
    assert [bytes_of(instant.live) for instant in result.backward] == [60]


def test_a_sum_passes_its_gradient_on_and_keeps_nothing() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 2, True)
    result = profile(tape, x, tape.add("residual", x, x))
    assert bytes_of(result.saved) == 0
    assert [bytes_of(instant.live) for instant in result.backward] == [20]


def test_a_product_keeps_the_factor_that_the_other_needs() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 2, True)
    frozen = tape.constant("factor", TOKENS * 10, 2)
    assert bytes_of(profile(tape, x, tape.multiply("product", x, frozen)).saved) == 20


def test_a_factor_that_was_spread_gets_its_gradient_in_full_first() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 4, True)
    small = tape.elementwise("mean", (x,), elements=TOKENS)
    result = profile(tape, x, tape.multiply("product", x, small))
    # kept x 40 and mean 4; incoming 40; gradients 40 and 4; the mean's gradient before its sum 40.
    assert bytes_of(result.backward[0].live) == 168


def test_pieces_share_a_storage_and_their_gradients_are_laid_together() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 2, True)
    left, right = tape.pieces("split", x, (TOKENS * 4, TOKENS * 6))
    result = profile(tape, x, tape.concatenate("cat", (left, right)))
    assert bytes_of(result.saved) == 0
    assert max(bytes_of(instant.live) for instant in result.backward) == 40


def test_nothing_is_kept_without_a_gradient() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 2, False)
    result = profile(tape, x, tape.unary("silu", x, "input"))
    assert bytes_of(result.saved) == 0
    assert result.backward == ()


def test_a_name_keeps_a_tensor_alive() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 2, True)
    middle = tape.unary("scale", x)
    y = tape.unary("scale", middle)
    tape.touch(x)
    # The name of x covers the instant in which y is made beside the tensor between them.
    assert max(bytes_of(instant.live) for instant in profile(tape, x, y).forward) == 60


def test_a_recomputation_ends_where_the_last_tensor_is_kept() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 2, True)
    y = tape.unary("scale", tape.unary("silu", x, "input"))
    assert profile(tape, x, y, early=True).forward == ()


def test_a_kept_parameter_counts_as_kept_for_a_recomputation() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 2, True)
    middle = tape.unary("silu", x, "input")
    y = tape.value("output", TOKENS * 10, 2, True)
    tape.record("linear", y, reads=(middle,), gradients=((middle, True),), saves_parameter=True)
    assert [instant.operation for instant in profile(tape, x, y, early=True).forward] == ["silu"]


def test_pruning_keeps_the_instant_that_covers_the_others() -> None:
    tape = Tape()
    x = tape.value("input", TOKENS * 10, 2, True)
    middle = tape.unary("first", x)
    profiles = profile(tape, x, tape.unary("second", middle))
    assert len(prune((*profiles.forward, *profiles.forward))) == 1
