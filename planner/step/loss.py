"""The output head and the loss, forward and backward, by the framework's own code.

Bytes per logit (an element of [b, s, vocabulary]) at the highest instant, 16-bit weights:

* full_logits, transformers (loss/loss_utils.py ForCausalLMLoss): 2 for the logits, 4 for the float32 copy, 4 for the
  log-softmax = 10 forward; 4 log-softmax + 4 + 4 gradients = 12 backward.
* chunked (torchtune modules/loss CEWithChunkedOutputLoss): 2 for the logits, which are made in chunks and stay, 4 for
  the log-softmax of all chunks, and one chunk's float32 copy.
* fused_linear (Liger fused_linear_cross_entropy): logits exist for one chunk of tokens; the gradients of hidden
  states and head are made in the forward pass.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.spec import ModelSpec, Module, linear
from planner.step.linear import AUTOCAST_COPY
from planner.step.linear import linear as product
from planner.step.player import FLOAT32, Player
from planner.step.sizes import TOKENS, Size, constant, token_chunk
from planner.step.tape import NOTHING, StorageClass, Value, moved

CONVERTED_OUTPUT = "convert_output"


def play_head(player: Player, spec: ModelSpec, hidden: Value) -> Value:
    """Final norm is done; this plays the head and the loss and returns the scalar loss."""
    if player.rules.objective == "sequence_classification":
        return _classification(player, spec, hidden)
    head = spec.lm_head
    if head is None:
        return _scalar(player, hidden)
    if player.rules.loss == "fused_linear":
        return _fused_linear(player, head, hidden)
    if player.rules.loss == "chunked":
        return _chunked(player, spec, head, hidden)
    return _full_logits(player, spec, head, hidden)


def _scalar(player: Player, source: Value) -> Value:
    loss = player.tape.value("loss", constant(1), FLOAT32, True)
    player.tape.record("mean", loss, reads=(source,), gradients=((source, True),))
    return loss


def _classification(player: Player, spec: ModelSpec, hidden: Value) -> Value:
    score = linear("score", spec.hidden, player.rules.num_labels, "lm_head")
    trained = Player(player.tape, player.rules, trains_base=True)
    return _scalar(player, product(trained, score, hidden))


def _full_logits(player: Player, spec: ModelSpec, head: Module, hidden: Value) -> Value:
    tape = player.tape
    tape.term = "logits_and_loss"
    logits = product(player, head, hidden)
    seen = _capped(player, logits) if spec.logit_softcap else logits
    if player.rules.framework == "litgpt":
        logits = seen = converted_output(player, seen)
    narrow = player.variant.narrow_loss and not player.rules.autocast
    wide = seen if narrow else tape.cast(seen, FLOAT32, "float32 logits")
    loss = _cross_entropy(player, wide)
    tape.touch(logits, seen)
    tape.term = None
    return loss


def converted_output(player: Player, logits: Value) -> Value:
    """Lightning gives a model's outputs back in float32, whatever it computes in; the 16-bit logits go.

    lightning/fabric/wrappers.py _FabricModule.forward, plugins/precision/half.py and bitsandbytes.py convert_output.
    """
    if logits.width == FLOAT32:
        return logits
    return player.tape.elementwise(CONVERTED_OUTPUT, (logits,), width=FLOAT32, what="float32 logits")


def _capped(player: Player, logits: Value) -> Value:
    """logits / cap, tanh (keeps its result), times cap (Gemma 2)."""
    scaled = player.tape.elementwise("divide", (logits,), what="logits / cap")
    bent = player.tape.elementwise("tanh", (scaled,), save_output=True, what="tanh of logits")
    return player.tape.elementwise("times", (bent,), what="capped logits")


def _cross_entropy(player: Player, logits: Value) -> Value:
    """aten log_softmax keeps its result; nll_loss makes a dense gradient of the same size."""
    tape = player.tape
    log_probabilities = tape.value("log-softmax", logits.elements, logits.width, True)
    tape.record(
        "log_softmax", log_probabilities, reads=(logits,), saves=(log_probabilities,), gradients=((logits, True),)
    )
    tape.add_work(
        "loss", "loss", FLOAT32, NOTHING, moved(logits, logits) * 2, moved(logits, logits) * 2,
        made=moved(log_probabilities), backward_made=moved(log_probabilities) * 2,
    )  # fmt: skip
    loss = tape.value("loss", constant(1), FLOAT32, True)
    tape.record(
        "nll_loss", loss, reads=(log_probabilities,), saves=(log_probabilities,),
        gradients=((log_probabilities, True),),
    )  # fmt: skip
    tape.touch(logits)
    return loss


def _chunked(player: Player, spec: ModelSpec, head: Module, hidden: Value) -> Value:
    """Logits of all chunks, 16 bit, then cross-entropy a chunk at a time, which keeps each chunk's log-softmax.

    torchtune and torchtitan form it from a float32 copy of the chunk (torchtune modules/loss, torchtitan
    components/loss.py), litgpt from logits that Lightning has put in float32 (litgpt/utils.py chunked_cross_entropy);
    its training loop keeps them through backward. Backward lays the gradients of the chunks together once the losses
    are done.
    """
    tape, chunks = player.tape, player.rules.loss_chunks
    tape.term = "logits_and_loss"
    copies_before = _copies_of_frozen_head(player, head, hidden)
    logits = product(player, head, hidden)
    _keep_with_head(player, head, copies_before)
    if player.trains_base and chunks > 1 and player.rules.framework != "torchtitan":
        _add_head_gradients(player, head)
    rows = token_chunk(chunks) * spec.vocabulary
    litgpt = player.rules.framework == "litgpt"
    if litgpt:
        logits = converted_output(player, logits)
    copies = tuple(tape.temporary("working copies of one chunk of logits", rows, FLOAT32) for _ in range(2))
    chunked = Value(logits.elements, logits.width, logits.storage, logits.needs_gradient)
    tape.record("chunk", chunked, reads=(logits,), gradients=((logits, True),))
    log_probabilities = tape.constant("log-softmax", logits.elements, FLOAT32)
    loss = tape.value("loss", constant(1), FLOAT32, True)
    tape.record(
        "chunked cross-entropy", loss, reads=(chunked, log_probabilities),
        saves=(log_probabilities, chunked) if litgpt else (log_probabilities,), gradients=((chunked, False),),
        forward_temporaries=() if litgpt else copies[:1], backward_temporaries=copies,
    )  # fmt: skip
    tape.touch(logits)
    tape.add_work("loss", "loss", FLOAT32, NOTHING, moved(logits) * 4, moved(logits) * 4)
    tape.term = None
    return loss


def _copies_of_frozen_head(player: Player, head: Module, hidden: Value) -> list[Value]:
    """Autocast's copies of a head that is not trained, but for the last chunk's: each chunk makes one and keeps it.

    aten/src/ATen/autocast_mode.cpp, cached_cast, remembers copies of leaves that require a gradient alone.
    """
    rules, tape = player.rules, player.tape
    trained = player.trains_base or head.name in rules.saved_modules
    if trained or not rules.autocast or not hidden.needs_gradient or rules.framework == "torchtitan":
        return []
    copies: list[Value] = []
    for _ in range(rules.loss_chunks - 1):
        copy = tape.value(AUTOCAST_COPY, constant(head.weight_elements), rules.compute_width, False)
        kind = tape.storages[copy.storage]
        tape.storages[copy.storage] = StorageClass(kind.what, kind.bytes, "temporaries")
        tape.record("autocast", copy, reads=())
        copies.append(copy)
    return copies


def _keep_with_head(player: Player, head: Module, kept: list[Value]) -> None:
    """Has the head's product keep the values until its backward."""
    if not kept:
        return
    operations = player.tape.operations
    position = next(i for i, operation in reversed(list(enumerate(operations))) if operation.name == head.name)
    known = operations[position]
    operations[position] = replace(known, saves=(*known.saves, *(value.storage for value in kept)))


def _add_head_gradients(player: Player, head: Module) -> None:
    """Where the head runs once a chunk, backward adds the chunks' gradients of its weight: two and their sum at once.

    torchtune and litgpt apply the head to each chunk (torchtune modules/transformer.py chunked_output, litgpt/model.py
    lm_head_chunk_size). torch/csrc/autograd/input_buffer.cpp adds out of place: own measurement with torch 2.13 on two
    and four products with one weight, three times its gradient.
    """
    operations = player.tape.operations
    size = constant(head.weight_elements * player.rules.compute_width)
    others = (StorageClass("head gradient of one chunk", size, "temporaries"),) * 2
    position = next(i for i, operation in reversed(list(enumerate(operations))) if operation.name == head.name)
    known = operations[position]
    operations[position] = replace(known, backward_temporaries=known.backward_temporaries + others)


def _fused_linear(player: Player, head: Module, hidden: Value) -> Value:
    """Liger: chunk of next_power_of_2(ceil(b*s / ceil(vocabulary / hidden))) tokens; gradients made in forward."""
    tape, rules = player.tape, player.rules
    vocabulary, width = head.outputs, head.inputs
    chunk = Size({(f"p/{-(-vocabulary // width)}",): vocabulary})
    working = [tape.temporary("logits of one chunk", chunk, rules.compute_width)]
    working = [StorageClass(kind.what, kind.bytes, "logits_and_loss") for kind in working]
    gradient = tape.value("gradient of the hidden states", TOKENS * width, rules.compute_width, False)
    tape.record("fused gradient", gradient, reads=(hidden,))
    kept = [gradient]
    if player.trains_base:
        weight = tape.value(
            "gradient of the head, made in forward", constant(head.weight_elements), rules.weights_width, False
        )
        tape.record("fused head gradient", weight, reads=(hidden,))
        kept.append(weight)
        working += _chunk_head_gradient(head, rules.compute_width)
    loss = tape.value("loss", constant(1), FLOAT32, True)
    tape.record(
        "fused linear cross-entropy", loss, reads=(hidden, *kept), saves=tuple(kept), gradients=((hidden, False),),
        forward_temporaries=tuple(working),
        weight_gradient=player.weight_gradient(head) if player.trains_base else (),
    )  # fmt: skip
    flops = TOKENS * (2 * head.weight_elements)
    products = 1 + int(player.trains_base)
    tape.add_work(head.name, "matmul", rules.compute_width, flops, moved(hidden), moved(hidden), flops * products)
    tape.add_work("loss", "loss", FLOAT32, NOTHING, TOKENS * (vocabulary * 6), NOTHING)
    return loss


def _chunk_head_gradient(head: Module, width: int) -> list[StorageClass]:
    """One chunk's gradient of the head, and its float32 copy, which Liger adds to the sum of the chunks.

    Source: liger_kernel/ops/fused_linear_cross_entropy.py since 0.6.2, `grad_weight += torch.mm(..).float()`.
    """
    widths = (width,) if width == FLOAT32 else (width, FLOAT32)
    sizes = (constant(head.weight_elements * each) for each in widths)
    return [StorageClass("head gradient of one chunk", size, "temporaries") for size in sizes]
