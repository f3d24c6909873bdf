"""What a run costs: money, energy, and how it fits into what a provider allows."""

from __future__ import annotations

import math
from typing import Final

from planner.contract import Costs, EstimateRequest, MachineRequest, Purchase, Sessions
from planner.hardware import Machine, Rent
from planner.plan import Plan
from planner.throughput import StepTime, seconds_to_finish

HOUR: Final = 3600.0
SETUP_HOURS: Final = 0.25
"""What each session spends before the first step: installing, downloading, loading the checkpoint. An assumption."""


def costs_of(request: EstimateRequest, plan: Plan, time: StepTime | None) -> Costs | None:
    """Money and energy of the run, None where neither a price, a power nor a time to finish says anything.

    cost = hours x price of an hour; energy = seconds x board power x devices: an upper bound, because a training step
    rarely draws the whole of it and the host around the devices is not in it. The rent holds the electricity.
    """
    machine, asked = plan.machine, request.machine
    finish = None if time is None or plan.tokens is None else _finish_hours(time, plan.tokens)
    if machine.rent is None and finish is None:
        return None
    price = None if machine.rent is None else machine.rent.usd_per_hour
    cost, energy = _range(finish, price), _range(finish, _kilowatts(machine))
    offer = None if machine.rent is None else machine.rent.offer
    return Costs(
        offer=None if offer is None else offer.id,
        provider=None if offer is None else offer.full_name,
        usd_per_hour=price,
        price_basis=None if machine.rent is None else machine.rent.basis,
        price_as_of=offer.as_of if machine.rent and offer and machine.rent.basis != "given" else None,
        cost_usd=None if cost is None else cost[1],
        cost_interval_usd=None if cost is None else (cost[0], cost[2]),
        energy_kwh=None if energy is None else energy[1],
        energy_interval_kwh=None if energy is None else (energy[0], energy[2]),
        electricity_usd=_product(energy[1], asked.electricity_usd_per_kwh) if energy and offer is None else None,
        sessions=None if finish is None else _sessions(machine.rent, finish),
        purchase=_purchase(asked, machine),
    )


def _finish_hours(time: StepTime, tokens: int) -> tuple[float, float, float]:
    """Hours to finish: the low end, the estimate, the high end."""
    hours = seconds_to_finish(time, tokens) / HOUR
    low, high = (end / time.step_seconds for end in time.interval)
    return hours * low, hours, hours * high


def _range(hours: tuple[float, float, float] | None, rate: float | None) -> tuple[float, float, float] | None:
    if hours is None or rate is None:
        return None
    return (hours[0] * rate, hours[1] * rate, hours[2] * rate)


def _product(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left * right


def _kilowatts(machine: Machine) -> float | None:
    """Board power of all units: thermal design power, which bounds what they draw over time."""
    watts = machine.device.tdp_watts
    return None if watts is None else watts * machine.device_count / 1000


def _sessions(rent: Rent | None, finish: tuple[float, float, float]) -> Sessions | None:
    """How many sessions and weeks the provider's limits make of the run, by the estimate of its hours."""
    offer = None if rent is None else rent.offer
    if offer is None or (offer.session_hours is None and offer.weekly_hours is None):
        return None
    hours = finish[1]
    length = offer.session_hours
    sessions = 1 if length is None else max(1, math.ceil(hours / max(length - SETUP_HOURS, SETUP_HOURS)))
    used = hours + sessions * SETUP_HOURS
    weeks = None if offer.weekly_hours is None else math.ceil(used / offer.weekly_hours)
    return Sessions(
        session_hours=length,
        weekly_hours=offer.weekly_hours,
        sessions=sessions,
        weeks=weeks,
        must_resume=sessions > 1 or (weeks or 1) > 1,
        message=_session_words(sessions, weeks, length),
    )


def _session_words(sessions: int, weeks: int | None, length: float | None) -> str:
    limit = "" if length is None else f" of at most {length:g} hours"
    if sessions == 1 and (weeks or 1) == 1:
        within = "" if weeks is None else " and the quota of one week"
        return f"fits one session{limit}{within}"
    quota = "" if weeks is None else f", {weeks} {'week' if weeks == 1 else 'weeks'} of quota"
    return f"needs {sessions} sessions{limit}{quota}: save checkpoints and resume"


def _purchase(asked: MachineRequest, machine: Machine) -> Purchase | None:
    """Buying at the given price against renting: the hour's rent less the hour's electricity pays the purchase off.

    The two are of one machine; resale, interest, and the computer around a bought device are left out.
    """
    rent = None if machine.rent is None else machine.rent.usd_per_hour
    if asked.purchase_usd is None or rent is None:
        return None
    power = _product(_kilowatts(machine), asked.electricity_usd_per_kwh) or 0.0
    saved = rent - power
    if saved <= 0:
        text = "renting costs no more than the electricity of a machine of one's own: buying never pays off"
        return Purchase(purchase_usd=asked.purchase_usd, saved_usd_per_hour=saved, break_even_hours=None, message=text)
    hours = asked.purchase_usd / saved
    text = f"buying has cost less than renting after {hours:,.0f} hours of use"
    return Purchase(purchase_usd=asked.purchase_usd, saved_usd_per_hour=saved, break_even_hours=hours, message=text)
