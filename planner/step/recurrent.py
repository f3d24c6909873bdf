"""Recurrent mixers."""

from __future__ import annotations

from planner.architecture.spec import StateSpace
from planner.step.player import NotModelled, Player
from planner.step.tape import Value


def play(player: Player, block: StateSpace, x: Value) -> Value:
    """The mixer of any recurrence."""
    del player, x
    raise NotModelled(f"the recurrence `{block.variant}`")
