"""transformers in this process, micro-batched: the fallback where no server can run.

``generate`` draws a whole batch from one random stream, so its texts would depend on who shares the batch. Here every
request has its own generator: the seed decides its random numbers, whatever the batch (the logits may still differ in
their last bits between batches, and with them a text, as on any engine). The prompts' common prefix, which is most of
a few-shot prompt, is computed once per batch.
"""

import asyncio
import importlib.metadata
import os
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

from dartlib.engines.models import weights_fingerprint
from dartlib.engines.protocol import Completion, EngineError, SamplingParameters

SLOTS = 64  # a batch lasts as long as its longest row: 60 questions in two halves take twice the steps
_COLLECT_SECONDS = 0.02
_FIRST_CANDIDATES = 256  # most nuclei are smaller: sorting the whole vocabulary would double a step's time
_CONTEXT_TOKENS = 5  # of the prompt, decoded with the response so that its first space survives


@dataclass(slots=True)
class _Request:
    """One prompt on its way to a text; ``generator`` gives one number in [0, 1) per new token."""

    prompt: list[int]
    sampling: SamplingParameters
    generator: torch.Generator
    reply: Future[Completion]
    started: float
    new: list[int] = field(default_factory=list)
    logprob_sum: float = 0.0


class LocalEngine:
    """An engine over a model folder; loads it at once, runs it in one worker thread, ``SLOTS`` requests at a time."""

    remembers_prefixes = False  # a batch computes what its own prompts share

    def __init__(self, model: Path) -> None:
        logging.disable_progress_bar()
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # a workflow runner may have said one
        self.name = f"transformers {importlib.metadata.version('transformers')}"
        self.weights = weights_fingerprint(model)
        self.slots = SLOTS
        self._tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        device, dtype = _device_and_dtype()
        self._model = AutoModelForCausalLM.from_pretrained(
            model, dtype=dtype, trust_remote_code=False, use_safetensors=True
        )
        self._model.eval().to(device)
        self._ends = _end_tokens(self._model, self._tokenizer)
        self._marks = self._tokenizer.get_added_vocab()  # leave no text: a stop string that is one ends by its token
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._work, name="dartlib-local-engine", daemon=True)
        self._worker.start()

    async def encode(self, text: str) -> Sequence[int] | str:
        """Token ids, with the special tokens the tokenizer adds by itself."""
        return self._token_ids(text)

    async def complete(self, prompt: Sequence[int] | str, sampling: SamplingParameters, seed: int) -> Completion:
        """Answer one prompt; raises EngineError when it does not fit the model's context or the model fails."""
        ids = self._token_ids(prompt) if isinstance(prompt, str) else list(prompt)
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if not ids or (longest is not None and len(ids) + sampling.max_tokens > longest):
            raise EngineError(
                f"a prompt of {len(ids)} tokens and max_tokens {sampling.max_tokens} do not fit the model's context "
                f"of {longest}",
                retryable=False,
            )
        if self._closing.is_set():
            raise EngineError("the local engine is closed", retryable=False)
        generator = torch.Generator().manual_seed(seed)
        request = _Request(ids, sampling, generator, Future(), time.monotonic())
        self._waiting.put(request)
        return await asyncio.wrap_future(request.reply)  # cancelling it cancels the reply, which drops the row

    async def close(self) -> None:
        """End the worker thread at its next token; waiting requests fail."""
        self._closing.set()
        self._waiting.put(None)
        await asyncio.to_thread(self._worker.join, 60)

    def _work(self) -> None:
        """The worker thread: batches until the engine is closed."""
        while (batch := self._next_batch()) and not self._closing.is_set():
            try:
                self._run(batch)
            except Exception as error:  # whatever torch raises, the requests must not wait for ever
                for request in batch:
                    _fail(request, EngineError(f"the local model failed: {type(error).__name__}: {error}"))
        while not self._waiting.empty():
            if late := self._waiting.get():
                batch.append(late)
        for request in batch:
            _fail(request, EngineError("the local engine was closed", retryable=False))

    def _next_batch(self) -> list[_Request]:
        """Wait for a request, then take what else arrives within a moment. Empty when the engine closes."""
        batch: list[_Request] = []
        timeout = None
        with suppress(queue.Empty):
            while len(batch) < SLOTS:
                request = self._waiting.get(timeout=timeout)
                if request is None:
                    break
                batch.append(request)
                timeout = _COLLECT_SECONDS
        return batch

    def _run(self, batch: list[_Request]) -> None:
        """Generate for all rows together; a row leaves when it is finished or cancelled."""
        with torch.inference_mode():
            logits, cache, mask = self._read_prompts([request.prompt for request in batch])
            rows = batch
            while True:
                self._draw(logits, rows)
                left = [index for index, row in enumerate(rows) if not self._finish_if_done(row)]
                if not left or self._closing.is_set():
                    break
                if len(left) < len(rows):
                    chosen = torch.tensor(left, device=mask.device)
                    cache.batch_select_indices(chosen)
                    mask, rows = mask[chosen], [rows[index] for index in left]
                mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
                tokens = torch.tensor([[row.new[-1]] for row in rows], device=mask.device)
                logits = self._forward(tokens, mask, cache)
        for request in batch:
            _fail(request, EngineError("the local engine was closed", retryable=False))  # if not answered

    def _read_prompts(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Run the prompts; returns logits of the next token (row, vocabulary), the cache, the mask (row, position)."""
        device = self._model.device
        cache = DynamicCache(config=self._model.config)
        shared = _shared_prefix(prompts)
        if shared:
            self._forward(torch.tensor([prompts[0][:shared]], device=device), None, cache)
            cache.batch_repeat_interleave(len(prompts))
        width = max(len(prompt) for prompt in prompts) - shared
        tokens = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.ones(len(prompts), shared + width, dtype=torch.long)
        for row, prompt in enumerate(prompts):  # padded left of what is not shared, so that all end together
            padding = width - (len(prompt) - shared)
            tokens[row, padding:] = torch.tensor(prompt[shared:])
            mask[row, shared : shared + padding] = 0
        mask = mask.to(device)
        return self._forward(tokens.to(device), mask, cache), cache, mask

    def _forward(self, tokens: torch.Tensor, mask: torch.Tensor | None, cache: Any) -> torch.Tensor:
        """One pass over new ``tokens`` (row, position); returns the last position's logits in fp32."""
        positions = None
        if mask is not None:  # padding takes no position
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        output = self._model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    def _draw(self, logits: torch.Tensor, rows: Sequence[_Request]) -> None:
        """Append one token to every row, by its own random number, and add up its log-probability."""
        temperatures = torch.tensor([row.sampling.temperature or 1.0 for row in rows], device=logits.device)
        nucleus = torch.tensor([row.sampling.top_p for row in rows], device=logits.device)
        # a greedy row looks at its best token only
        nucleus[torch.tensor([row.sampling.temperature == 0 for row in rows])] = 0.0
        numbers = torch.cat([torch.rand(1, generator=row.generator) for row in rows]).to(logits.device)
        chosen = sample_nucleus(logits / temperatures[:, None], nucleus, numbers)
        logprobs = (logits.gather(1, chosen[:, None]).squeeze(1) - logits.logsumexp(dim=1)).tolist()
        for row, token, logprob in zip(rows, chosen.tolist(), logprobs, strict=True):
            row.new.append(token)
            row.logprob_sum += logprob

    def _finish_if_done(self, row: _Request) -> bool:
        """True when the row is over: cancelled, end token, stop string or length; its reply is then set."""
        if row.reply.cancelled():
            return True
        ended = row.new[-1] in self._ends or row.new[-1] in map(self._marks.get, row.sampling.stop)
        text = self._text(row) if ended or row.sampling.stop or len(row.new) >= row.sampling.max_tokens else ""
        cuts = [at for stop in row.sampling.stop if (at := text.find(stop)) >= 0]
        if not (ended or cuts or len(row.new) >= row.sampling.max_tokens):
            return False
        completion = Completion(
            text=text[: min(cuts)] if cuts else text,
            finish_reason="stop" if ended or cuts else "length",
            n_tokens=len(row.new),
            logprob_sum=row.logprob_sum,
            seconds=time.monotonic() - row.started,
        )
        with suppress(InvalidStateError):  # cancelled just now
            row.reply.set_result(completion)
        return True

    def _token_ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    def _text(self, row: _Request) -> str:
        context = row.prompt[-_CONTEXT_TOKENS:]
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        before: str = self._tokenizer.decode(context, **options)
        both: str = self._tokenizer.decode(context + row.new, **options)
        return both[len(before) :]


def sample_nucleus(logits: torch.Tensor, nucleus: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Draw one token per row from the smallest set of best tokens whose mass reaches ``nucleus``.

    ``logits`` (row, vocabulary), ``nucleus`` (row) in [0, 1] where 0 is greedy, ``numbers`` (row) in [0, 1): the
    draw is the inverse of the cumulative distribution at that number, so equal numbers give equal tokens.
    """
    probabilities = logits.softmax(dim=1)
    for candidates in (min(_FIRST_CANDIDATES, logits.shape[1]), logits.shape[1]):
        best, tokens = probabilities.topk(candidates, dim=1)
        mass = best.cumsum(dim=1)
        if bool((mass[:, -1] >= nucleus).all()):
            break
    kept = best * ((mass - best) < nucleus[:, None])
    kept[:, 0] = best[:, 0]  # the best token always belongs
    cumulative = kept.cumsum(dim=1)
    place = (cumulative <= (numbers * cumulative[:, -1])[:, None]).sum(dim=1)
    last = (kept > 0).sum(dim=1) - 1  # rounding must not lead beyond the nucleus
    return tokens.gather(1, place.minimum(last)[:, None]).squeeze(1)


def _shared_prefix(prompts: Sequence[list[int]]) -> int:
    """How many first tokens all prompts have in common, leaving at least one token to each."""
    first, last = min(prompts), max(prompts)  # in order, so what these two share all share
    limit = min(len(prompt) for prompt in prompts) - 1
    return next((at for at in range(limit) if first[at] != last[at]), limit)


def _device_and_dtype() -> tuple[str, torch.dtype]:
    return ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    configured = model.generation_config.eos_token_id
    ends = set(configured if isinstance(configured, list) else [configured]) | {tokenizer.eos_token_id}
    return ends - {None}


def _fail(request: _Request, error: EngineError) -> None:
    with suppress(InvalidStateError):  # answered or cancelled already
        request.reply.set_exception(error)
