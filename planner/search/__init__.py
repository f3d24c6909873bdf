"""What would work, and which of it is best: many plans weighed at once."""

from planner.search.contract import Constraints, SearchAnswer, SearchPlan, SearchRequest
from planner.search.search import Found, Frame, search
from planner.search.space import SpaceError

__all__ = ["Constraints", "Found", "Frame", "SearchAnswer", "SearchPlan", "SearchRequest", "SpaceError", "search"]
