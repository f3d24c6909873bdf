"""Losses that never hold all logits in float32, in the place of the model's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from planner.verify.modules import output_head
from planner.verify.settings import TraceSettings


def with_loss(model: Any, settings: TraceSettings) -> Callable[..., Any]:
    """The model's forward, whose loss is the chunked or fused one where the settings say so.

    The head is made to hand its input on, so that the model's `logits` are the last hidden states. Soft-capping moves
    into the loss's kernel, as in Liger's own patches (liger_kernel/transformers/model/gemma2.py).
    """
    if settings.loss == "full_logits":
        return model.forward
    head = output_head(model)
    model.config.get_text_config().final_logit_softcapping = None
    head.forward = hand_on

    def forward(**inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        labels = inputs.pop("labels")
        inputs.pop("num_items_in_batch")
        if model.config.is_encoder_decoder:  # the model would make it of the labels: [b, s] too
            inputs["decoder_input_ids"] = torch.empty_like(labels)
        hidden = model.forward(**inputs)["logits"]
        if settings.loss == "chunked":
            return {"loss": chunked_loss(hidden, head, labels, settings.loss_chunks)}
        return {"loss": fused_linear_loss(hidden, head, labels)}

    return forward


def hand_on(hidden: torch.Tensor) -> torch.Tensor:
    """The head's forward while the loss applies the head."""
    return hidden


def chunked_loss(hidden: torch.Tensor, head: nn.Linear, labels: torch.Tensor, chunks: int) -> torch.Tensor:
    """torchtune's: chunks of the sequence go through the head and are all held; each is upcast in its turn.

    hidden [b, s, h], labels [b, s]. Each chunk's log-softmax is kept in float32 for backward, as nothing is compiled.
    Source: torchtune modules/transformer.py (`chunked_output`), modules/loss/ce_chunked_output_loss.py.
    """
    logits = [F.linear(chunk, head.weight, head.bias) for chunk in hidden.tensor_split(chunks, dim=1)]
    parts = zip(logits, labels.tensor_split(chunks, dim=1), strict=True)
    return torch.stack([chunk_loss(part, targets) for part, targets in parts]).sum()


def chunk_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """`compute_cross_entropy`: [b, s / chunks, V] against [b, s / chunks]."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), targets.reshape(-1), reduction="sum")


def fused_linear_loss(hidden: torch.Tensor, head: nn.Linear, labels: torch.Tensor) -> torch.Tensor:
    """Liger's LigerFusedLinearCrossEntropyFunction; hidden [b, s, h], labels [b, s]."""
    rows = hidden.reshape(-1, hidden.shape[-1])
    result: Any = FusedLinearLoss.apply(rows, head.weight, labels.reshape(-1))  # pyright: ignore
    return cast("torch.Tensor", result)


class FusedLinearLoss(torch.autograd.Function):
    """Forward makes the gradients of the hidden states [t, h] and of the head [V, h], one chunk of rows at a time.

    Source: liger_kernel/ops/fused_linear_cross_entropy.py; its kernel turns a chunk's logits into their gradient in
    place, under a second name, so that the old chunk is still there when the next one is made.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the scalar loss in float32."""
        of_rows = torch.zeros_like(rows)
        of_weight = torch.zeros_like(weight) if weight.requires_grad else None
        losses = torch.zeros(rows.shape[0])
        _valid = labels != -100
        for start in range(0, rows.shape[0], chunk_rows(rows, weight)):
            part = rows[start : start + chunk_rows(rows, weight)]
            logits = part @ weight.t()
            of_logits = logits
            of_rows[start : start + part.shape[0]] = of_logits @ weight
            if of_weight is not None:
                of_weight += torch.mm(of_logits.t(), part).float()
        ctx.save_for_backward(of_rows, of_weight)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Hands over what forward made, scaled in place."""
        of_rows, of_weight = ctx.saved_tensors
        return of_rows, of_weight, None


def chunk_rows(rows: torch.Tensor, weight: torch.Tensor) -> int:
    """next_power_of_2(t / ceil(V / h)) rows a chunk, so that its logits take about as much as the hidden states."""
    factor = -(-weight.shape[0] // rows.shape[1])
    return 1 << (-(-rows.shape[0] // factor) - 1).bit_length()
