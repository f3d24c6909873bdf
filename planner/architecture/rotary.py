"""How many of a head's dimensions turn with the position."""

from __future__ import annotations

from planner.architecture.config import Config


def rotary_dim_of(config: Config, head_dim: int, default: float = 1.0) -> int | None:
    """`partial_rotary_factor` x head_dim, rounded down; None when every dimension turns.

    transformers 5 writes the factor into `rope_parameters`; older configs have it at the top. `default` is the factor
    of a class that turns a part of the head even when its config does not say so.
    """
    factor = default
    for section in ("rope_parameters", "rope_scaling"):
        if section in config and "partial_rotary_factor" in config.section(section):
            factor = config.section(section).number("partial_rotary_factor", maximum=1.0)
    if "partial_rotary_factor" in config:
        factor = config.number("partial_rotary_factor", maximum=1.0)
    return None if factor == 1.0 else int(head_dim * factor)
