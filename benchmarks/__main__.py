"""`make bench` runs every benchmark and fails when a target is missed."""

from __future__ import annotations

import sys

from benchmarks import bench_api, search

if __name__ == "__main__":
    sys.exit(max(bench_api.main(), search.main()))
