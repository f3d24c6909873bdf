"""The tensors of a run that exist whether or not a step is under way: base weights, adapters, what is trained."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from planner.architecture.count import counted_modules, stack_modules
from planner.architecture.spec import ModelSpec, Module, layer_modules, reads_encoder
from planner.step.adapters import parameter_adapter_shapes
from planner.step.rules import StepRules


@dataclass(frozen=True, slots=True)
class Tensors:
    """`count` tensors of `shape`. `module` says where they come from; `embedding` matters to 8-bit optimizers."""

    what: str
    shape: tuple[int, ...]
    count: int
    embedding: bool = False
    hidden_matrix: bool = False

    @property
    def elements(self) -> int:
        """Elements of one tensor."""
        product = 1
        for dimension in self.shape:
            product *= dimension
        return product


def base_modules(spec: ModelSpec, rules: StepRules) -> Iterator[tuple[Module, int]]:
    """The base model's leaf modules; a tied head's weight once, a classification head in place of the output head."""
    for module, times in counted_modules(spec):
        if module is spec.lm_head and (spec.tied or rules.objective == "sequence_classification"):
            continue
        yield module, times


def module_tensors(module: Module, times: int) -> Iterator[Tensors]:
    """Weight and bias of a module as the tensors that an optimizer sees; none of a module that never trains."""
    if module.kind == "frozen":
        return
    hidden = module.kind in {"linear", "experts", "conv"} and module.component not in {"lm_head", "embedding"}
    if module.weight_elements:
        matrix = hidden and len(module.shape) == 2
        yield Tensors(module.name, module.shape, times, module.kind == "embedding", matrix)
    if module.bias:
        yield Tensors(f"{module.name}.bias", (module.bias,), times)


def trained_base(spec: ModelSpec, rules: StepRules) -> Iterator[Tensors]:
    """Base tensors that are trained: all for full, the last layers for freeze, none under adapters.

    A batch of text leaves the towers of a multimodal model idle: their gradients stay None, and optimizers make no
    state for a parameter without a gradient (torch/optim/adamw.py _init_group).
    """
    if rules.method == "full":
        idle = _idle(spec)
        for module, times in base_modules(spec, rules):
            if id(module) not in idle:
                yield from module_tensors(module, times)
    elif rules.method == "freeze":
        remaining = rules.trainable_layers
        for run in reversed(spec.text.runs):
            taken = min(remaining, run.count)
            remaining -= taken
            if taken:
                for module in layer_modules(run.layer):
                    yield from module_tensors(module, taken)
    if rules.objective == "sequence_classification" and not rules.has_adapters:
        yield _score(spec, rules)


def _score(spec: ModelSpec, rules: StepRules) -> Tensors:
    """The head of a classifier, which is trained by every method."""
    return Tensors("score", (rules.num_labels, spec.hidden), 1)


def _idle(spec: ModelSpec) -> set[int]:
    """Identities of the modules without a gradient: what a batch of text does not reach, and what runs without one.

    A batch of text reaches neither towers nor layers that read only them. Whisper's encoder has fixed positions, and
    DeepSeek's indexers run under torch.no_grad. Source: transformers models/mllama/modeling_mllama.py
    MllamaTextModel.forward, whisper/modeling_whisper.py WhisperEncoder, deepseek_v32/modeling_deepseek_v32.py.
    """
    if spec.task == "speech_seq2seq_lm":
        return {id(module) for module in spec.encoders[0].before if module.kind == "embedding"}
    if spec.task != "causal_lm":
        return set()
    towers = (module for stack in spec.encoders for module, _ in stack_modules(stack))
    layers = ((run.layer, module) for run in spec.text.runs for module in layer_modules(run.layer))
    unreached = (m for layer, m in layers if reads_encoder(layer) or m.name.startswith("indexer."))
    return {id(module) for module in (*towers, *unreached)}


def adapters(spec: ModelSpec, rules: StepRules, rank: int, without: Container[int] = ()) -> Iterator[Tensors]:
    """LoRA's A [rank, in] and B [out, rank], DoRA's magnitude [out], and copies of modules_to_save.

    `without` are identities of modules whose adapters are left out.

    A classifier's head is such a copy beside the original (peft_model.py, PeftModelForSequenceClassification).

    Stacked experts and routers that PEFT reaches as parameters have adapters of their own shapes. Source:
    peft/tuners/lora/layer.py update_layer and ParamWrapper; peft/utils/other.py ModulesToSaveWrapper (a deep copy).
    """
    if not rules.has_adapters:
        return
    for module, times in base_modules(spec, rules):
        if id(module) in without:
            continue
        if rules.adapts(module):
            yield Tensors(f"{module.name}.lora_A", (rank, module.inputs), times)
            yield Tensors(f"{module.name}.lora_B", (module.outputs, rank), times)
            if rules.method == "dora":
                yield Tensors(f"{module.name}.lora_magnitude", (module.outputs,), times)
        if rules.adapts_parameter(module):
            low, high = parameter_adapter_shapes(module, rank)
            yield Tensors(f"{module.name}.lora_A", low, times)
            yield Tensors(f"{module.name}.lora_B", high, times)
        if module.name in rules.saved_modules:
            yield from module_tensors(module, times)
    if rules.objective == "sequence_classification":
        yield _score(spec, rules)


def trained(spec: ModelSpec, rules: StepRules, rank: int) -> list[Tensors]:
    """Every tensor that the optimizer updates; a batch of text leaves the adapters of towers without a gradient too."""
    return [*trained_base(spec, rules), *adapters(spec, rules, rank, without=_idle(spec))]
