"""What would work, and which of it is best: many plans weighed at once."""

from planner.search.contract import Constraints, SearchAnswer, SearchPlan, SearchRequest
from planner.search.frontier import Found
from planner.search.search import Frame, search
from planner.search.space import SpaceError

__all__ = ["Constraints", "Found", "Frame", "SearchAnswer", "SearchPlan", "SearchRequest", "SpaceError", "search"]
