"""Versions that stand on every answer. The estimator's is raised whenever any number changes."""

ESTIMATOR_VERSION = "0.15.0"
CATALOG_VERSION = "2026-11-24"
