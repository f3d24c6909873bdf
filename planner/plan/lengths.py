"""The sequence length that is typical, and the longest that a model takes."""

from __future__ import annotations

from typing import Any

from planner.architecture.spec import ModelSpec
from planner.contract import RunRequest
from planner.errors import PlanError
from planner.plan.filling import Filler

TYPICAL_SEQUENCE = 2048


def sequence_length(run: RunRequest, spec: ModelSpec, filler: Filler) -> int:
    """Tokens of a sequence, by default a typical number; what an encoder then reads is assumed too.

    Raises:
        PlanError: the model's position table ends earlier.
    """
    typical = min(TYPICAL_SEQUENCE, spec.max_positions or TYPICAL_SEQUENCE)
    sequence = filler.take("sequence_length", run.sequence_length, typical)
    _check(sequence, spec, filler)
    filler.assumed |= _encoder_length(spec, sequence)
    return sequence


def longest_sequence(spec: ModelSpec) -> int | None:
    """The end of the model's position table; None without one, as with RoPE, which can be computed for any position."""
    has_table = len(spec.embeddings) > 1 and any("pos" in t.name or t.name == "wpe" for t in spec.embeddings)
    return spec.max_positions if has_table else None


def _check(sequence: int, spec: ModelSpec, filler: Filler) -> None:
    limit = spec.max_positions
    if limit is None or sequence <= limit:
        return
    if longest_sequence(spec) is not None:
        raise PlanError(
            "sequence_too_long", "run.sequence_length", sequence, f"1 to {limit}",
            f"run.sequence_length is {sequence}, but the model's position table ends at {limit}",
        )  # fmt: skip
    filler.warnings.append(
        f"run.sequence_length {sequence} is above the {limit} positions that the model was trained for"
    )


def _encoder_length(spec: ModelSpec, sequence: int) -> dict[str, Any]:
    """What an encoder reads: as many tokens as the decoder writes, or one window of sound."""
    if spec.task == "seq2seq_lm":
        return {"model.encoder_length": sequence}
    if spec.task == "speech_seq2seq_lm":
        return {"model.encoder_length": spec.encoders[0].positions_per_sample}
    return {}
