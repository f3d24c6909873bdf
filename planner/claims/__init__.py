"""What people have read elsewhere about training without an NVIDIA GPU, answered with this engine's own numbers."""

from planner.claims.claims import CLAIMS
from planner.claims.judging import Claim, Judged, Row, judged

__all__ = ["CLAIMS", "Claim", "Judged", "Row", "judged"]
