"""What no formula covers, and how the devices share the work."""

from __future__ import annotations

from planner.contract import RunRequest
from planner.errors import NotModelledError, PlanError
from planner.framework_policies import why_not_modelled
from planner.hardware import Machine
from planner.plan.filling import Filler

FRAMEWORKS = ("transformers", "trl", "axolotl", "llama_factory", "torchtune", "torchtitan", "litgpt", "deepspeed")


def refuse_uncovered(run: RunRequest) -> None:
    """Refuse by name what the formulas leave out.

    Raises:
        NotModelledError: the first such field.
    """
    if run.framework not in FRAMEWORKS:
        why = why_not_modelled(run.framework)
        raise NotModelledError(
            "framework_not_modelled", "run.framework",
            f"framework `{run.framework}` is not modelled{f' ({why})' if why else ''}; "
            f"modelled are {', '.join(FRAMEWORKS)}",
        )  # fmt: skip
    _refuse_sharded_int8(run)
    for axis in ("tensor", "pipeline", "context", "expert"):
        if getattr(run.parallelism, axis) != 1:
            raise NotModelledError(
                "parallelism_not_modelled", f"run.parallelism.{axis}",
                f"{axis} parallelism is not modelled; data parallelism with zero_stage 0 to 3 is",
            )  # fmt: skip
    for what in ("optimizer", "parameters", "activations"):
        if getattr(run.offload, what) != "none":
            raise NotModelledError(
                "offload_not_modelled", f"run.offload.{what}",
                f"offloading the {what} to the CPU is not modelled; the paged optimizers are",
            )  # fmt: skip
    if run.compile:
        raise NotModelledError(
            "compile_not_modelled", "run.compile", "torch.compile fuses kernels in ways that no formula here covers"
        )
    for name in ("weights_dtype", "compute_dtype", "gradient_dtype", "optimizer_state_dtype"):
        if getattr(run, name) == "float8":
            raise NotModelledError("float8_not_modelled", f"run.{name}", "training in float8 is not modelled")


def _refuse_sharded_int8(run: RunRequest) -> None:
    """FSDP shards float dtypes only; bitsandbytes lays 4-bit weights into one, and none of 8 bit (fsdp_qlora.md)."""
    scheme = run.quantization.scheme if run.method == "qlora" and run.quantization else "nf4"
    if scheme == "int8" and run.parallelism.zero_stage == 3:
        raise NotModelledError(
            "sharded_int8_not_modelled", "run.quantization.scheme",
            "int8 weights have no float storage that sharding takes; nf4 has one, zero_stage 0 to 2 shard no weights",
        )  # fmt: skip


def data_parallel(run: RunRequest, machine: Machine, filler: Filler) -> int:
    """How many ranks train on different data: as asked, or all that the other axes leave.

    Raises:
        PlanError: the axes do not multiply to the machine's logical devices.
    """
    parallelism, logical = run.parallelism, machine.logical_devices
    others = parallelism.tensor * parallelism.pipeline * parallelism.context
    derived = logical // others
    if logical % others or (parallelism.data or derived) != derived:
        product = f"{others} times a whole number" if parallelism.data is None else others * parallelism.data
        raise PlanError(
            "parallelism_mismatch", "run.parallelism.data", parallelism.data, str(derived or 1),
            f"data x tensor x pipeline x context is {product}, but the machine has {logical} logical devices",
        )  # fmt: skip
    if parallelism.data is None:
        filler.assumed["run.parallelism.data"] = derived
        return derived
    return parallelism.data
