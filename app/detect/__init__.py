"""What this machine is: found without torch, and turned into a machine that the planner can plan with."""

from app.detect.detect import Roots, detect
from app.detect.found import DetectedMachine, FoundCpu, FoundDevice, FoundMemory
from app.detect.resolve import to_machine, to_machines

__all__ = [
    "DetectedMachine",
    "FoundCpu",
    "FoundDevice",
    "FoundMemory",
    "Roots",
    "detect",
    "to_machine",
    "to_machines",
]
