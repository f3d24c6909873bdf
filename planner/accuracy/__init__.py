"""How far predictions are from what was measured, and the intervals that follow from that."""
