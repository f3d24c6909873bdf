"""Time of one optimizer step: by roofline from the catalogue's rates, or by the curves of a calibration."""

from planner.throughput.communication import bytes_sent
from planner.throughput.rates import UnknownRate
from planner.throughput.step import Calibrated, OperationSeconds, StepTime, seconds_to_finish, step_time

__all__ = ["Calibrated", "OperationSeconds", "StepTime", "UnknownRate", "bytes_sent", "seconds_to_finish", "step_time"]
