"""What the family tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from planner.architecture.registry import read_config
from planner.architecture.spec import ModelSpec
from planner.catalog.models import model

Read = Callable[..., ModelSpec]


@pytest.fixture
def read() -> Read:
    """Read a model of the catalogue, with fields of its config replaced (None removes one)."""

    def reader(model_id: str, **changes: Any) -> ModelSpec:
        kept = {name: value for name, value in model(model_id).config.items() if name not in changes}
        return read_config(kept | {name: value for name, value in changes.items() if value is not None})

    return reader
