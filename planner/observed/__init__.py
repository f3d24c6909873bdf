"""What people measured of a run, read from the texts that tools print, and why it is not what was estimated."""

from planner.observed.reading import MAXIMUM_CHARACTERS, Observation, Unreadable, read
from planner.observed.reasoning import Explanation, Finding, Suspect, explain

__all__ = [
    "MAXIMUM_CHARACTERS",
    "Explanation",
    "Finding",
    "Observation",
    "Suspect",
    "Unreadable",
    "explain",
    "read",
]
