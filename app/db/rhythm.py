"""How often a worker is heard of, and when it counts as dead. Every process of an installation keeps the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rhythm:
    """A worker that could not reach the database for `fence_seconds` ends its job by itself, before anybody else may
    take the job over at `dead_seconds`: so none runs twice at once, whatever broke."""

    beat_seconds: float = 5.0
    fence_seconds: float = 20.0
    dead_seconds: float = 30.0
    look_seconds: float = 0.4
    """How often a running job looks for its cancellation and passes on what it said."""
    tidy_seconds: float = 5.0
    """How often the janitor goes round."""
    dispatch_seconds: float = 0.25
    """How often a worker looks for new jobs."""
    engine_kept_seconds: float = 86_400.0
    """How long the engine's record of a run stays after its end, for whoever looks into a fault."""
    forget_seconds: float = 60.0
    """How often a worker looks for such records."""
    recovery_seconds: float = 10.0
    """How long after its start the engine may take to find what it was doing when it was killed."""


RHYTHM = Rhythm()
