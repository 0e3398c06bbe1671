"""One training step in torch: packs to tensors, loss on the supervised positions, gradients over all packs.

Examples of a pack are kept apart by an explicit block-diagonal mask. Transformers can infer the blocks from restarted
position ids, but silently does not when its cache is on; a mask that is given always holds. Only the ``sdpa``
attention backend is used, because that is what the tests compare with separate passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from dartlib.training.config import TrainingError
from dartlib.training.data import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "sdpa"


@dataclass(frozen=True)
class Batch:
    """Packs as tensors, one pack a row, rows filled up to the longest.

    ``input_ids`` and ``position_ids`` have the shape (packs, tokens); ``mask`` (packs, 1, tokens, tokens) is True
    where a token may look at another; ``predicts`` (packs, tokens) marks the positions whose next token is supervised,
    and ``targets`` holds those tokens, in reading order.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    mask: torch.Tensor
    predicts: torch.Tensor
    targets: torch.Tensor


def collate(packs: Sequence[Sequence[Example]], device: torch.device) -> Batch:
    """Lay the examples of each pack end to end. Filling tokens form a block of their own that carries no loss."""
    width = max(sum(len(example.token_ids) for example in examples) for examples in packs)
    shape = (len(packs), width)
    ids, positions, blocks = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    predicts = torch.zeros(shape, dtype=torch.bool)
    targets: list[int] = []
    for row, examples in enumerate(packs):
        start = 0
        for block, example in enumerate(examples, start=1):  # block 0 is the filling
            end = start + len(example.token_ids)
            ids[row, start:end] = torch.tensor(example.token_ids)
            positions[row, start:end] = torch.arange(end - start)
            blocks[row, start:end] = block
            predicts[row, start + example.prompt_tokens - 1 : end - 1] = True
            targets.extend(example.token_ids[example.prompt_tokens :])
            start = end
    mask = (blocks[:, None, :, None] == blocks[:, None, None, :]) & torch.ones(width, width, dtype=torch.bool).tril()
    return Batch(*(part.to(device) for part in (ids, positions, mask, predicts, torch.tensor(targets))))


def summed_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Cross-entropy summed over the supervised tokens (nats), a scalar.

    The vocabulary projection is computed where a supervised token is predicted and nowhere else: with short responses
    the prompt would be more than half of that work.
    """
    if model.config._attn_implementation != ATTENTION:
        raise TrainingError(f"packing needs the {ATTENTION} attention, not {model.config._attn_implementation}")
    hidden = _hidden_states(model, batch)
    logits = model.get_output_embeddings()(hidden[batch.predicts])
    return functional.cross_entropy(logits.float(), batch.targets, reduction="sum")


def _hidden_states(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    decoder = model.base_model
    output = decoder(
        input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.mask, use_cache=False
    )
    states: torch.Tensor = output.last_hidden_state
    return states


def check_projection(model: PreTrainedModel) -> None:
    """Raise TrainingError for a model whose logits are more than its projection (scaled or capped, as in Gemma 2)."""
    ids = torch.arange(4, device=model.device)[None]
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        ours, theirs = model.get_output_embeddings()(hidden), model(input_ids=ids, use_cache=False).logits
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        raise TrainingError(f"{model.config.model_type} models change their logits after the projection: not supported")


def accumulate_gradients(
    model: PreTrainedModel, packs: Sequence[Sequence[Example]], *, packs_per_forward: int, precision: str
) -> float:
    """Add the gradients of one step's loss to the model and return the loss, the mean over its supervised tokens.

    Every forward pass is divided by the supervised tokens of the *whole step*: a mean of means would weigh tokens in
    short packs more, and change the result with ``packs_per_forward``.
    """
    supervised = sum(example.supervised_tokens for examples in packs for example in examples)
    total = 0.0
    for start in range(0, len(packs), packs_per_forward):
        batch = collate(packs[start : start + packs_per_forward], model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = summed_loss(model, batch) / supervised
        loss.backward()
        total += loss.item()
    return total
