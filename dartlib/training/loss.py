"""One training step in torch: packs to tensors, loss on the supervised positions, in chunks.

Examples of a pack are kept apart by an explicit block-diagonal mask (sdpa, eager), or by their boundaries given to
the kernel (flash attention). Transformers can infer either from restarted position ids, but silently does not when
its cache is on; what is given always holds. `check_packing` compares with separate passes before any step.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from dartlib.training.data import Example
from dartlib.training.recipe import TrainingError

CHUNK_TOKENS = 512  # supervised tokens projected at a time: 100 MB of fp32 logits per buffer at 49k words


@dataclass(frozen=True)
class Batch:
    """Packs as tensors, one pack a row, rows filled up to the longest.

    ``input_ids`` and ``position_ids`` have the shape (packs, tokens); ``attention`` is what keeps examples apart, as
    arguments of the decoder; ``predicts`` (packs, tokens) marks the positions whose next token is supervised, and
    ``targets`` holds those tokens, in reading order.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention: dict[str, Any]
    predicts: torch.Tensor
    targets: torch.Tensor


def collate(packs: Sequence[Sequence[Example]], device: torch.device, attention: str = "sdpa") -> Batch:
    """Lay the examples of each pack end to end. Filling tokens form a block of their own that carries no loss.

    For flash attention all packs lie in one row, without filling.
    """
    flash = attention.startswith("flash")
    if flash:
        packs = [list(itertools.chain(*packs))]
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
    parts = (ids, positions, predicts, torch.tensor(targets, dtype=torch.long))
    ids, positions, predicts, wanted = (part.to(device) for part in parts)
    apart = _boundaries(packs[0], device) if flash else {"attention_mask": _mask(blocks.to(device), attention)}
    return Batch(ids, positions, apart, predicts, wanted)


def _mask(blocks: torch.Tensor, attention: str) -> torch.Tensor:
    """(packs, 1, tokens, tokens): where a token may look at another. ``eager`` adds its mask: 0 or almost -infinity."""
    width = blocks.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=blocks.device).tril()
    mask = (blocks[:, None, :, None] == blocks[:, None, None, :]) & causal
    if attention == "sdpa":
        return mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.bfloat16).min)


def _boundaries(examples: Sequence[Example], device: torch.device) -> dict[str, Any]:
    lengths = [len(example.token_ids) for example in examples]
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
    most = max(lengths)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": most, "max_length_k": most}


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of hidden states (tokens, width) under a projection, a chunk of tokens at a time.

    The gradients are computed together with the loss, chunk by chunk, and kept: one chunk's logits are alive at a
    time, as when they are recomputed in backward, at three matrix products instead of four and no more memory at the
    peak (backward starts with this very gradient). The sum of chunk losses is scaled once, by whoever calls backward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        cap: float | None,
        chunk_tokens: int,
    ) -> torch.Tensor:
        device = hidden.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        total = torch.zeros((), device=hidden.device)
        wanted = zip((hidden, weight), ctx.needs_input_grad[:2], strict=True)
        slopes = [torch.zeros_like(part) if want else None for part, want in wanted]
        matrix = weight.to(low)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(targets), chunk_tokens):
                part = hidden[start : start + chunk_tokens].to(low)
                raw = functional.linear(part, matrix)
                loss, slope = _loss_and_slope(raw, targets[start : start + chunk_tokens], cap)
                total += loss
                if slopes[0] is not None:
                    slopes[0][start : start + chunk_tokens] = slope @ matrix
                if slopes[1] is not None:
                    if low == slopes[1].dtype:
                        slopes[1].addmm_(slope.T, part)
                    else:
                        slopes[1] += slope.T @ part
        ctx.slopes = slopes
        return total

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slopes = [None if slope is None else slope.mul_(scale) for slope in ctx.slopes]
        ctx.slopes = None
        return (*slopes, None, None, None)


def _loss_and_slope(raw: torch.Tensor, targets: torch.Tensor, cap: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The chunk's summed loss in fp32 and its gradient for the raw logits, in their type."""
    with torch.enable_grad():
        leaf = raw.detach().float().requires_grad_()
        logits = leaf if cap is None else cap * torch.tanh(leaf / cap)
        loss = functional.cross_entropy(logits, targets, reduction="sum")
        (slope,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), slope.to(raw.dtype)


class ChunkedLoss(torch.nn.Module):
    """A model's vocabulary projection and the cross-entropy after it; shares the projection's own parameters."""

    def __init__(self, model: PreTrainedModel, chunk_tokens: int = CHUNK_TOKENS) -> None:
        super().__init__()
        self.weight = model.get_output_embeddings().weight  # a bias, if there is one, `check_model` finds missing
        self.cap = getattr(model.config, "final_logit_softcapping", None)
        self.chunk_tokens = chunk_tokens

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The summed loss (nats) of predicting ``targets`` (tokens,) from ``hidden`` (tokens, width)."""
        loss: torch.Tensor = _ChunkedCrossEntropy.apply(hidden, self.weight, targets, self.cap, self.chunk_tokens)
        return loss


class SupervisedModel(torch.nn.Module):
    """A causal language model whose forward pass is a batch's loss, on supervised tokens only.

    The vocabulary projection is computed where a supervised token is predicted and nowhere else: with short responses
    the prompt would be more than half of that work. One module, so that DeepSpeed sees each parameter used in it.
    """

    def __init__(self, model: PreTrainedModel, *, precision: str = "fp32", chunk_tokens: int = CHUNK_TOKENS) -> None:
        super().__init__()
        self.model = model
        self.loss = ChunkedLoss(model, chunk_tokens)
        self.precision = precision

    def forward(self, batch: Batch) -> torch.Tensor:
        """The summed cross-entropy (nats) of the batch's supervised tokens, a scalar."""
        with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.loss(self.hidden(batch)[batch.predicts], batch.targets)

    def hidden(self, batch: Batch) -> torch.Tensor:
        """The decoder's last hidden states (packs, tokens, width)."""
        output = self.model.base_model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, **batch.attention
        )
        states: torch.Tensor = output.last_hidden_state
        return states


def check_model(module: SupervisedModel, device: torch.device) -> None:
    """Raise TrainingError unless, here, packed examples are what they are alone and the loss is the model's own.

    The ways in which a model would train on something else without a sign: an attention implementation that lets the
    examples of a pack see each other, or that leaves out the model's cap on attention scores (transformers' sdpa
    does); and logits that are changed after the projection in a way unknown to us.
    """
    model, attention = module.model, module.model.config._attn_implementation
    if attention == "sdpa" and getattr(model.config, "attn_logit_softcapping", None):
        raise TrainingError(
            f"sdpa attention leaves out the score cap of {model.config.model_type}: use attention: eager"
        )
    words = [number % model.config.vocab_size for number in range(3, 27)]
    first, second, joined = (Example(tuple(part), 1) for part in (words[:12], words[12:], words))
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=module.precision == "bf16"):
        packed, leaking = (module.hidden(collate([pack], device, attention))[0] for pack in ([first, second], [joined]))
        alone = torch.cat([module.hidden(collate([[one]], device, attention))[0] for one in (first, second)])
        batch = collate([[first]], device, attention)
        ours = module(batch) / len(batch.targets)
        logits = model(input_ids=batch.input_ids, use_cache=False).logits[0, :-1]
        theirs = functional.cross_entropy(logits.float(), batch.targets)
    model.train(was_training)
    if not (packed - alone).abs().max() < 0.2 * (leaking - alone).abs().max():
        raise TrainingError(f"{attention} attention lets packed examples see each other here: use attention: sdpa")
    if not torch.allclose(ours, theirs, rtol=0.02 if module.precision == "bf16" else 1e-4):
        raise TrainingError(f"{model.config.model_type} models change their logits after the projection: not supported")
