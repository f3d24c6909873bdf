"""What is wrong with the machine of a request, with the field at fault."""

from __future__ import annotations


class MachineError(ValueError):
    """The machine of a request can't be resolved: `field` is at fault with its `value`, `accepted` says what fits."""

    def __init__(self, field: str, message: str, *, value: str | int | None = None, accepted: str = "") -> None:
        self.field = field
        self.value = value
        self.accepted = accepted or message
        super().__init__(message)


class UnknownDevice(MachineError):
    """No device of the catalogue has this id; `suggestions` are ids that look alike, never used in its place."""

    def __init__(self, device_id: str, suggestions: tuple[str, ...]) -> None:
        self.device_id = device_id
        self.suggestions = suggestions
        hint = f"; the nearest ids are {', '.join(suggestions)}" if suggestions else ""
        super().__init__("machine.device", f"no device {device_id[:128]!r} in the catalogue{hint}")


class UnknownMachineOffer(MachineError):
    """No offer of the catalogue has the id that the machine names; `suggestions` are ids that look alike."""

    def __init__(self, offer_id: str, message: str, suggestions: tuple[str, ...]) -> None:
        near = f": {', '.join(suggestions)} are nearest" if suggestions else ""
        super().__init__("machine.offer", message, value=offer_id, accepted=f"an id of GET /api/v1/offers{near}")
