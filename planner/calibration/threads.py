"""How many threads torch computes with."""

from __future__ import annotations

import torch


def use_threads(count: int) -> int:
    """Let one operation use this many threads; returns how many it uses."""
    torch.set_num_threads(count)
    return torch.get_num_threads()
