"""What was measured, by whom and how: the documents that predictions are held against."""

from planner.corpus.catalogue import LeftOut, left_out, measured_runs
from planner.corpus.document import DocumentError, MeasuredRun, Peak, read_document
from planner.corpus.from_measurement import from_measurement

__all__ = [
    "DocumentError", "LeftOut", "MeasuredRun", "Peak", "from_measurement", "left_out", "measured_runs", "read_document",
]  # fmt: skip
