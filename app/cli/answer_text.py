"""An answer in a terminal: the verdict first, then what it rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from app.cli.console import Console
from app.web.charts import TERM_LABELS
from app.web.numbers import gib, interval_basis, pace, percent, plain, rate
from planner.contract import Answer, Costs, DeviceMemory, Memory, Throughput
from planner.units import format_count, format_seconds

_MARKS = {
    "fits": ("✓", "FITS", "green"),
    "tight": ("!", "TIGHT", "yellow"),
    "does_not_fit": ("✗", "DOES NOT FIT", "red"),
    "unsupported": ("✗", "NOT SUPPORTED THERE", "red"),
    "not_modelled": ("?", "NOT MODELLED YET", "cyan"),
}
_LEVERS_SHOWN = 8
_LABEL_WIDTH = 24


def answer_text(answer: Answer, console: Console) -> str:
    """The whole report."""
    parts: list[Iterator[str]] = [_verdict(answer, console)]
    if answer.memory:
        parts += [
            _capacity(answer.memory, console),
            _terms(answer.memory, console),
            _moments(answer.memory.device, console),
        ]
    parts += [_levers(answer, console), _time(answer), _costs(answer, console), _parameters(answer)]
    parts += [_evidence(answer, console), _assumptions(answer, console)]
    blocks = ["\n".join(part) for part in parts]
    return "\n\n".join(block for block in blocks if block)


def wrapped(text: str, console: Console, indent: str = "  ") -> str:
    """A paragraph within the console's width, its later lines under the first."""
    return textwrap.fill(text, console.width, initial_indent=indent, subsequent_indent=" " * len(indent))


def _verdict(answer: Answer, console: Console) -> Iterator[str]:
    mark, word, colour = _MARKS[answer.verdict]
    yield console.paint(f"{mark} {word}", colour, "bold")
    yield console.paint(wrapped(answer.summary, console), "bold")
    if answer.verdict != "fits":
        for reason in answer.reasons:
            yield wrapped(reason.message, console, "  · ")


def _capacity(memory: Memory, console: Console) -> Iterator[str]:
    device = memory.device
    low, high = device.interval_bytes
    yield f"  {_bar(device, console)}"
    yield f"  needs {gib(device.required_bytes)} of {gib(device.usable_bytes)} usable"
    yield f"  between {gib(low)} and {gib(high)} ({interval_basis(device.interval_basis)})"


def _bar(device: DeviceMemory, console: Console) -> str:
    """What is needed (solid, the range beyond it shaded) against what is usable (the upright line)."""
    cells = console.width - 6
    widest = max(device.usable_bytes, device.interval_bytes[1], 1)
    needed = round(device.required_bytes / widest * cells)
    high = round(device.interval_bytes[1] / widest * cells)
    limit = min(round(device.usable_bytes / widest * cells), cells - 1)
    drawn = ["█" if i < needed else "▒" if i < high else "·" for i in range(cells)]
    inside, beyond = "".join(drawn[:limit]), "".join(drawn[limit:])
    fits = device.required_bytes <= device.usable_bytes
    return console.paint(inside, "green" if fits else "yellow") + "│" + console.paint(beyond.rstrip("·"), "red")


def _terms(memory: Memory, console: Console) -> Iterator[str]:
    device = memory.device
    rows = [(TERM_LABELS[name], size) for name, size in device.terms.model_dump().items() if size]
    biggest = max((size for _, size in rows), default=1)
    room = max(console.width - _LABEL_WIDTH - 20, 8)
    for label, size in rows:
        yield f"  {label:<{_LABEL_WIDTH}}{gib(size):>12}  {console.paint('▇' * round(size / biggest * room), 'blue')}"
    yield console.paint(f"  {'Needed (highest moment)':<{_LABEL_WIDTH}}{gib(device.required_bytes):>12}", "bold")
    spare = "To spare" if device.headroom_bytes >= 0 else "Missing"
    yield f"  {spare:<{_LABEL_WIDTH}}{gib(abs(device.headroom_bytes)):>12}"
    host = "Host memory" + (" (same pool)" if memory.host.shared_with_device else "")
    yield f"  {host:<{_LABEL_WIDTH}}{gib(memory.host.peak_bytes):>12}"
    yield f"  {'Disk':<{_LABEL_WIDTH}}{gib(memory.disk.needed_bytes):>12}"


def _moments(device: DeviceMemory, console: Console) -> Iterator[str]:
    beyond = device.required_bytes - max((moment.allocated_bytes for moment in device.moments), default=0)
    yield "Moments: what the allocator hands out at most in each"
    for moment in device.moments:
        mark = "  ← highest" if moment.name == device.highest_moment else ""
        yield f"  {moment.name.replace('_', ' '):<{_LABEL_WIDTH}}{gib(moment.allocated_bytes):>12}{mark}"
    yield wrapped(
        f"The process needs {gib(beyond)} more than the highest of them: fragmentation, and what the driver and the "
        "libraries take outside the allocator.",
        console,
    )


def _levers(answer: Answer, console: Console) -> Iterator[str]:
    if not answer.advice:
        return
    yield "What would change the answer"
    for advice in answer.advice[:_LEVERS_SHOWN]:
        title = advice.title or plain(advice.change)
        effects = [f"saves {gib(advice.bytes_saved)}" if advice.bytes_saved > 0 else "saves nothing"]
        if advice.bytes_saved < 0:
            effects = [f"costs {gib(-advice.bytes_saved)}"]
        if advice.time_factor is not None:
            effects.append(pace(advice.time_factor))
        if advice.makes_it_fit and answer.verdict != "fits":
            effects.append(console.paint("makes it fit", "green"))
        yield f"  · {console.paint(title, 'bold')}: {', '.join(effects)}"
        yield wrapped(advice.why, console, "    ")


def _time(answer: Answer) -> Iterator[str]:
    time = answer.throughput
    if time is None:
        return
    yield "Time"
    low, high = time.interval
    yield (
        f"  one step {format_seconds(time.step_seconds)} ({format_seconds(low)} to {format_seconds(high)}), "
        f"{rate(time.tokens_per_second)} tokens per second"
        + ("" if time.mfu is None else f", {percent(time.mfu)} of the peak{_peak(time)}")
        + f"; basis: {time.basis}"
    )
    if time.seconds_to_finish is not None:
        yield f"  to finish: {format_seconds(time.seconds_to_finish)}{_range(time.finish_interval)}"


def _peak(time: Throughput) -> str:
    return "" if time.peak_flops is None else f" of {rate(time.peak_flops / 1e12)} TFLOP/s"


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({format_seconds(interval[0])} to {format_seconds(interval[1])})"


def _costs(answer: Answer, console: Console) -> Iterator[str]:
    """Money and energy, with the date of the price."""
    costs = answer.costs
    if costs is None:
        return
    yield "Money and energy"
    if costs.usd_per_hour is not None or costs.offer is not None:
        yield wrapped(f"price: {_price(costs)}", console)
    if costs.cost_usd and costs.cost_interval_usd is not None:
        low, high = costs.cost_interval_usd
        yield f"  cost to finish: ${costs.cost_usd:,.2f} (${low:,.2f} to ${high:,.2f})"
    if costs.energy_kwh is not None:
        bill = "" if costs.electricity_usd is None else f", ${costs.electricity_usd:,.2f} of electricity"
        yield f"  energy: at most {rate(costs.energy_kwh)} kWh{bill} (board power over the whole time)"
    if costs.sessions is not None:
        quota = costs.sessions.weekly_hours
        yield wrapped(
            f"sessions: it {costs.sessions.message}" + ("" if quota is None else f"; about {quota:g} hours a week"),
            console,
        )
    if costs.purchase is not None:
        price = f"at ${costs.purchase.purchase_usd:,.0f}"
        yield wrapped(f"rent against buy: {costs.purchase.message}, {price}", console)


def _price(costs: Costs) -> str:
    provider = "" if costs.provider is None else f", {costs.provider}"
    dated = "" if costs.price_as_of is None else f", of {costs.price_as_of}"
    if costs.usd_per_hour is None:
        return "not published" + provider + dated
    if costs.usd_per_hour == 0:
        return "free" + provider + dated
    basis = {"given": "as you say", "spot": "spot", "offer": "on demand"}
    words = "" if costs.price_basis is None else f" ({basis[costs.price_basis]})"
    return f"${costs.usd_per_hour:,.2f} an hour{words}{provider}{dated}"


def _parameters(answer: Answer) -> Iterator[str]:
    counted = answer.parameters
    if counted is None:
        return
    yield "Parameters"
    yield (
        f"  {counted.total:,} ({format_count(counted.total)}) in all, {format_count(counted.active)} active per token, "
        f"{format_count(counted.trainable)} trained"
    )


def _evidence(answer: Answer, console: Console) -> Iterator[str]:
    """What a trace said, term by term, or why there is none."""
    for reason in answer.reasons:
        if reason.code == "not_verifiable":
            yield wrapped(f"not verified: {reason.message}", console, "")
    if answer.evidence.tier == "estimate":
        return
    yield "Evidence"
    for note in answer.evidence.notes:
        yield wrapped("· " + note, console)
    yield f"  {'':<{_LABEL_WIDTH}}{'estimate':>12}{'trace':>12}  believed"
    for row in answer.evidence.differences:
        label = TERM_LABELS.get(row.term, row.term.replace("_", " "))
        yield f"  {label:<{_LABEL_WIDTH}}{gib(row.estimate_bytes):>12}{gib(row.trace_bytes):>12}  {row.believed}"
    for why in dict.fromkeys(row.why for row in answer.evidence.differences if not row.why.startswith("they agree")):
        yield wrapped("· " + why, console)


def _assumptions(answer: Answer, console: Console) -> Iterator[str]:
    for warning in answer.warnings:
        yield wrapped("warning: " + warning, console, "")
    if answer.assumed:
        yield "Assumed, because nobody said otherwise"
        yield wrapped(_joined([f"{name} {plain(value)}" for name, value in answer.assumed.items()]), console)
    yield console.paint(
        f"evidence: {answer.evidence.tier} · estimator {answer.estimator_version} · catalogue {answer.catalog_version}",
        "dim",
    )


def _joined(items: Sequence[str]) -> str:
    return "; ".join(items)
