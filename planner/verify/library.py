"""The border to libraries whose types pyright can't follow: what comes through here is Any."""

from __future__ import annotations

import importlib
from typing import Any


def library(name: str) -> Any:
    """The module of that name, imported when it is first needed (transformers takes seconds)."""
    return importlib.import_module(name)
