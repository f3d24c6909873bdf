from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.jobs.fleet import Fleet


@pytest.fixture
def fleet(database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """An empty database of each kind, and a folder for workers; they are killed afterwards."""
    made = Fleet(database_url, tmp_path)
    yield made
    made.close()
