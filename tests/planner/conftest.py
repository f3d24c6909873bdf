"""Traces collect garbage before they watch storages; that must not look through all that earlier tests left."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _only_own_garbage() -> None:  # pyright: ignore[reportUnusedFunction]
    """What is alive when a module begins is looked at no more: collections took most of a trace's time without it."""
    gc.collect()
    gc.freeze()
