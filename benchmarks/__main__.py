"""`make bench` runs every benchmark and fails when a target is missed."""

from __future__ import annotations

import sys

from benchmarks import bench_api

if __name__ == "__main__":
    sys.exit(bench_api.main())
