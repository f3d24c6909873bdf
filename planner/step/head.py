"""From the last layer's result to the loss: final norm, head, loss."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from planner.architecture.spec import ModelSpec
from planner.step.activations import activate
from planner.step.linear import linear
from planner.step.loss import play_head
from planner.step.norms import norm
from planner.step.player import Player
from planner.step.rules import StepRules
from planner.step.runs import stream_width
from planner.step.simulate import BlockProfile, simulate
from planner.step.sizes import TOKENS
from planner.step.tape import Tape, Value
from planner.step.variants import variant_of


def head_profile(spec: ModelSpec, rules: StepRules, *, reached: bool) -> tuple[Tape, BlockProfile]:
    """The head's tape and profile, which no checkpoint wraps."""
    return _played_head(spec, replace(rules, checkpointing="none", checkpoint_every=0), reached)


@lru_cache(maxsize=512)
def _played_head(spec: ModelSpec, rules: StepRules, reached: bool) -> tuple[Tape, BlockProfile]:
    tape = Tape(rules.on_processor)
    trained = rules.trains_base
    player = Player(tape, rules, trained, variant_of(spec, rules.framework))
    reached = reached and not (rules.method == "freeze" and rules.trainable_layers == 0)
    x = tape.value("last hidden states", TOKENS * spec.hidden, stream_width(rules, player.variant), reached)
    hidden = x
    for module in spec.text.after:
        hidden = norm(player, module, hidden) if module.kind.endswith("norm") else linear(player, module, hidden)
    if player.variant.final_dropout and "embedding" in player.variant.dropouts:
        hidden = player.dropout(hidden)
    if player.variant.float32_stream:
        hidden = tape.cast(hidden, rules.weights_width, "last hidden states in the weights' dtype")
    hidden = _transform(player, spec, hidden)
    loss = play_head(player, spec, hidden)
    return tape, simulate(tape, (x,), (loss,), accumulate=rules.frees_gradients)


def _transform(player: Player, spec: ModelSpec, hidden: Value) -> Value:
    """What a masked-language-model head has before its product: dense, GELU, norm (BertPredictionHeadTransform)."""
    if player.rules.objective == "sequence_classification":
        return hidden
    for module in spec.head_extra:
        if module.kind == "linear":
            hidden = activate(player, "gelu", linear(player, module, hidden))
        elif module.kind.endswith("norm"):
            hidden = norm(player, module, hidden)
    return hidden
