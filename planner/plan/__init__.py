"""From a request to a plan: open fields filled in (resolve.py), with what was assumed, or refused with the reason."""

from planner.plan.covered import FRAMEWORKS
from planner.plan.lengths import longest_sequence
from planner.plan.plan import Plan, Points
from planner.plan.resolve import resolve

__all__ = ["FRAMEWORKS", "Plan", "Points", "longest_sequence", "resolve"]
