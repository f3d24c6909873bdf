"""The group of ranks that train together."""

from __future__ import annotations

from typing import Final

import torch
from torch import distributed

BACKENDS: Final = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}


def join(device_type: str, local_rank: int) -> None:
    """Join the group that torchrun's environment describes."""
    if device_type != "cpu":
        torch.accelerator.set_device_index(local_rank)
    distributed.init_process_group(BACKENDS[device_type])


def leave() -> None:
    """Leave it."""
    distributed.destroy_process_group()
