"""Time of one optimizer step by roofline: each operation takes the longer of its computing and its moving of bytes."""

from planner.throughput.communication import bytes_sent
from planner.throughput.rates import UnknownRate
from planner.throughput.step import OperationSeconds, StepTime, seconds_to_finish, step_time

__all__ = ["OperationSeconds", "StepTime", "UnknownRate", "bytes_sent", "seconds_to_finish", "step_time"]
