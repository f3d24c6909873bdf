"""Errors that name the field, the value and what would be accepted."""

from __future__ import annotations


class PlanError(ValueError):
    """A request that contradicts itself, the model, the machine or the framework's own code."""

    def __init__(self, code: str, field: str, value: object, accepted: str, message: str) -> None:
        self.code = code
        self.field = field
        self.value = value
        self.accepted = accepted
        super().__init__(message)


class NotModelledError(ValueError):
    """A plan that is understood but that no formula covers; answered with the verdict `not_modelled`."""

    def __init__(self, code: str, field: str, message: str) -> None:
        self.code = code
        self.field = field
        super().__init__(message)
