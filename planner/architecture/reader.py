"""The type of a family's reader, in a file of its own so that families need not import the registry."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.config import Config
from planner.architecture.spec import ModelSpec

Reader = Callable[[Config], ModelSpec]
