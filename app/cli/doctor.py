"""`trainfit doctor`: what is seen of this machine, which torch is installed, and whether the two go together."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.console import Console
from planner.support import Needs, support_for

if TYPE_CHECKING:
    from app.detect import DetectedMachine
    from app.settings import Settings
    from planner.hardware import Machine

EPILOG = "Nothing is imported or run: torch's own version file says what it was built for."
PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl", "torchtune", "torchtitan")
_NEEDED_BUILD = {"nvidia": "cuda", "amd": "hip", "intel": "xpu"}
_BUILD_NAMES = {"cuda": "CUDA", "hip": "ROCm", "xpu": "XPU"}


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """The installed torch: its version, and the accelerator that it was built for (None: the CPU only)."""

    version: str
    accelerator: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print it."""
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--describe", action="store_true", help="print the line that the page /machine reads")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Look and say; 0 when the software can use the hardware, 1 when something is to be done."""
    from app.detect import detect, to_machines
    from app.detect.pasted import described

    found, torch = detect(), torch_build()
    if arguments.describe:
        console.write(described(found))
        return 0
    machines = to_machines(found)
    todo = list(advice(machines[0] if machines else None, torch))
    optional = list(missing_for_methods(machines[0] if machines else None, _installed()))
    if arguments.json:
        built = None if torch is None else asdict(torch)
        seen = {"found": found.to_json(), "torch": built, "packages": _installed(), "todo": todo, "optional": optional}
        console.write(json.dumps(seen, indent=2))
    else:
        _print(found, machines, torch, console)
        _print_jobs(console)
        _print_todo(todo, optional, console)
    return 1 if todo else 0


def _print_jobs(console: Console) -> None:
    """Which workers there are, and what waits. A database that nobody used yet is not made."""
    from app.settings import Settings

    settings = Settings()
    console.write(console.paint("Jobs", "bold"))
    for line in _jobs(settings):
        console.write(f"  {line}")


def _jobs(settings: Settings) -> Iterator[str]:
    from app.db.opened import FILE, OpenedDatabase

    if settings.database_url is None and not (settings.data_dir / FILE).exists():
        yield "none yet: `trainfit serve` has a worker, `trainfit measure` starts one"
        return
    from app.db.errors import DatabaseUnavailable
    from app.jobs.service import JobService
    from app.plans import Plans

    database = OpenedDatabase(settings)
    jobs = JobService(Plans(settings), database)
    try:
        for worker, live, job in jobs.workers():
            doing = "nothing" if job is None else f"job {job.id}"
            state = f"runs {doing}" if live else "is not heard of"
            yield f"worker {worker.name} ({', '.join(worker.device_classes)}) {state}"
        counts = jobs.store().counts().items()
        waiting = sum(count for (_, state), count in counts if state in ("queued", "waiting_for_hardware"))
        yield f"{waiting} waiting, {sum(count for _, count in counts)} in all"
    except DatabaseUnavailable as error:
        yield f"the database does not answer: {error}"
    finally:
        jobs.close()
        database.close()


def torch_build() -> TorchBuild | None:
    """The installed torch, read from its version file: importing it would take seconds."""
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "version.py"
    return read_torch_version(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_torch_version(text: str) -> TorchBuild:
    """What torch/version.py says: `cuda`, `hip` and `xpu` are None or a version."""
    found = dict(re.findall(r"^(__version__|cuda|hip|xpu)\b[^=\n]*= *['\"]([^'\"]*)['\"]", text, re.MULTILINE))
    accelerator = next((name for name in ("cuda", "hip", "xpu") if found.get(name)), None)
    return TorchBuild(found.get("__version__", "unknown"), accelerator)


def advice(machine: Machine | None, torch: TorchBuild | None) -> Iterator[str]:
    """What to do, in order."""
    if machine is None:
        yield "This machine could not be looked at: name a device with --device, or give its figures."
    if torch is None:
        yield "torch is not installed: estimates work without it, training and verification do not."
    elif machine is not None and machine.device.kind in ("gpu", "apu"):
        needed = _NEEDED_BUILD.get(machine.device.vendor)
        if needed is not None and torch.accelerator != needed:
            yield (
                f"torch {torch.version} is not built for {machine.device.name}: install the {_BUILD_NAMES[needed]} "
                "build (in a checkout: make install TORCH_INDEX=<address of that build's index>)."
            )


def missing_for_methods(machine: Machine | None, installed: Mapping[str, str | None]) -> Iterator[str]:
    """What a method needs beyond torch that is not installed, or that no software offers on this hardware."""
    if not installed["peft"]:
        yield "LoRA, DoRA and QLoRA need peft: pip install peft"
    if machine is None:
        return
    needs = Needs("qlora", "nf4", "adamw_8bit", "transformers", "llama", "sdpa", "full_logits")
    offered = {item.component: item for item in support_for(machine.device, needs)}
    methods = {"quantised base": "QLoRA", "8-bit optimizer": "8-bit optimizers"}
    able = [name for component, name in methods.items() if offered[component].supported]
    if able and not installed["bitsandbytes"]:
        since = offered["quantised base"].since
        yield f"{' and '.join(able)} need bitsandbytes (known to work: {since}): pip install bitsandbytes"
    yield from (offered[component].note for component in methods if not offered[component].supported)


def _installed() -> dict[str, str | None]:
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _print(found: DetectedMachine, machines: Sequence[Machine], torch: TorchBuild | None, console: Console) -> None:
    from app.machines import shown

    console.write(console.paint("This machine", "bold"))
    for machine in machines:
        words = shown(machine)
        known = machine.device.id if machine.device.id != "unknown" else "not in the catalogue"
        console.write(f"  {words.name if words else ''} [{known}]: {words.summary if words else ''}")
    for probe, reason in found.reasons.items():
        console.write(console.paint(f"  {probe}: {reason}", "dim"))
    console.write(console.paint("Software", "bold"))
    built = "" if torch is None else f" ({_BUILD_NAMES.get(torch.accelerator or '', 'CPU')} build)"
    for name, installed in _installed().items():
        console.write(f"  {name:<14}{installed or 'not installed'}{built if name == 'torch' else ''}")


def _print_todo(todo: Sequence[str], optional: Sequence[str], console: Console) -> None:
    for title, lines in (("To do", todo), ("For some methods only", optional)):
        if lines:
            console.write(console.paint(title, "bold"))
        for line in lines:
            console.write(f"  · {line}")
    if not todo and not optional:
        console.write(console.paint("Nothing to do", "bold"))
