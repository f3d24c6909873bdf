"""Comparisons of plans, and the reports that keep them."""
