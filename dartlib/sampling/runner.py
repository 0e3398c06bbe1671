"""Asking until told to stop: the thin asynchronous shell around the scheduler.

It keeps every engine slot busy, grades each reply on arrival, flushes the pool every few seconds and on the way
out, and repeats failed requests. What it does not do: decide anything - that is the scheduler's and the policy's.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dartlib.engines import Completion, Engine, EngineError, SamplingParameters, run
from dartlib.engines.protocol import EngineBusy, checked
from dartlib.grading import GradingPool
from dartlib.leases import Lease
from dartlib.processes import term_raises
from dartlib.queries import Template
from dartlib.records import Attempt, Grade, Query, Trial, Verdict, check_unique
from dartlib.sampling.demand import Budget, Policy
from dartlib.sampling.guards import Guards, SamplingError
from dartlib.sampling.pool import PoolWriter, Setting, grader_key, trial_seed
from dartlib.sampling.progress import Progress
from dartlib.sampling.reader import PoolReader
from dartlib.sampling.scheduler import Scheduler

FLUSH_SECONDS = 2.0
MAX_ATTEMPTS = 5
FIRST_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class SamplingReport:
    """What one call to ``sample`` did. Counts are of this call, except ``verdicts`` and ``trials_in_pool``."""

    pool: Path  # the setting's folder
    setting: str
    queries: int
    finished: int
    trials_new: int
    trials_in_pool: int
    tokens_new: int
    seconds: float
    wasted_trials: int  # beyond the quota- or cap-meeting index, of all trials in the pool
    verdicts: Mapping[str, int]
    failed_requests: int
    stuck: Sequence[str] = field(default_factory=tuple)
    budget_spent: bool = False  # the budget ended the call before the policy did

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_new / self.seconds if self.seconds else 0.0


def sample(
    queries: Sequence[Query],
    *,
    engine: Engine,
    template: Template,
    sampling: SamplingParameters,
    sampling_seed: int,
    policy: Policy,
    pool_folder: Path,
    budget: Budget | None = None,
    grading_workers: int = 1,
    lenient_grading: bool = False,
    allow_unusable: bool = False,
    log: Callable[[str], None] = print,
) -> SamplingReport:
    """Draw trials until the policy's demand is met for every query, or the budget is spent; resume from the pool.

    ``sampling.stop`` is completed by the template's own stop strings. ``lenient_grading`` is for evaluations: without
    an explicit final answer the last number counts. Synchronous: it owns an event loop in a
    thread, so it works in a notebook, and an interrupt ends it within seconds with the pool whole.

    Raises SamplingError when the engine refuses for good or gives nothing usable for a while, when the grader times
    out on more than 1 % of the trials, and, unless ``allow_unusable``, when most replies are cut or hold no answer;
    LeaseHeld when another process fills this pool. A TERM (a batch system's, with seconds of grace) aborts what is
    asked, flushes the pool and raises SystemExit(143); outside of the main thread it costs what was not flushed yet.
    """
    check_unique(queries)
    sampling = replace(sampling, stop=tuple(dict.fromkeys(sampling.stop + template.stop)))
    setting = Setting.of(engine.weights, template.fingerprint, sampling, sampling_seed)
    with (
        Lease(pool_folder / setting.identity, purpose="sampling"),
        GradingPool(workers=grading_workers, lenient=lenient_grading) as grading,
    ):
        session = _Session(queries, engine, template, sampling, setting, policy, pool_folder, grading, log)
        session.budget = budget or Budget()
        session.guards.allow_unusable = allow_unusable
        with term_raises(lambda: SystemExit(143)):
            return run(session.work())


class _Session:
    """State of one call to ``sample``."""

    def __init__(
        self,
        queries: Sequence[Query],
        engine: Engine,
        template: Template,
        sampling: SamplingParameters,
        setting: Setting,
        policy: Policy,
        pool_folder: Path,
        grading: GradingPool,
        log: Callable[[str], None],
    ) -> None:
        self.queries = {query.query_id: query for query in queries}
        self.engine, self.template, self.sampling, self.setting = engine, template, sampling, setting
        self.policy, self.grading, self.log = policy, grading, log
        self.progress = Progress(len(queries), log)
        self.writer = PoolWriter(pool_folder, setting)
        self.reader = PoolReader(self.writer.folder)
        self.prompts: dict[str, Sequence[int] | str] = {}
        self.reasons: dict[str, str] = {}  # of each query's last failed request
        self.trials_new = self.tokens_new = 0
        self.budget = Budget()
        self.guards = Guards(self.writer.folder)
        self.tokens_before = 0
        self.outstanding = 0  # trials asked for whose response is not there yet
        self.budget_spent = False
        self.arrivals: asyncio.Queue[tuple[str, int, Verdict | None] | BaseException] = asyncio.Queue()

    async def work(self) -> SamplingReport:
        """Resume, then keep the slots full until the scheduler has nothing left to ask."""
        self.started = started = time.monotonic()
        if self.budget.tokens is not None:
            self.tokens_before = int(self.reader.trials(["n_tokens"])["n_tokens"].to_numpy().sum())
        self.writer.add_queries(self.queries.values())
        scheduler = Scheduler(list(self.queries), self.policy, await self._resume())
        running: set[asyncio.Task[None]] = set()
        awaited = 0  # trials handed out whose arrival has not been taken yet
        flusher = asyncio.create_task(self._keep_flushing(scheduler))
        flusher.add_done_callback(self._pass_on_failure)
        try:
            while True:
                # The first trial goes alone: what prompts share is then in the server's prefix cache for all others.
                slots = 1 if self.engine.remembers_prefixes and not self.trials_new else self.engine.slots
                while awaited < slots and not self._spent() and (chosen := scheduler.next_trial()) is not None:
                    awaited += 1
                    self.outstanding += 1
                    task = asyncio.create_task(self._ask(*chosen))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    task.add_done_callback(self._pass_on_failure)
                if not awaited:
                    break
                arrival = await self.arrivals.get()
                awaited -= 1
                if isinstance(arrival, BaseException):
                    raise arrival
                query_id, trial, verdict = arrival
                if verdict is None:
                    scheduler.on_failure(query_id, trial)
                else:
                    scheduler.on_result(query_id, trial, verdict is Verdict.CORRECT)
                self.guards.check_verdicts()
                self.progress.tick(scheduler, self.trials_new, self.tokens_new)
        finally:
            await _cancel([*running, flusher])
            self.writer.close()
        self.progress.finish(scheduler, self.trials_new, self.tokens_new)
        return self._report(scheduler, time.monotonic() - started)

    def _spent(self) -> bool:
        """True once the budget allows no further trial; said once."""
        if not self.budget_spent:
            hours, tokens = (time.monotonic() - self.started) / 3600, self.tokens_before + self.tokens_new
            foreseen = self.outstanding * self.tokens_new / max(self.trials_new, 1)
            too_late = self.budget.hours is not None and hours >= self.budget.hours
            too_many = self.budget.tokens is not None and tokens + foreseen >= self.budget.tokens
            self.budget_spent = too_late or too_many
            if self.budget_spent:
                why = f"{self.budget.hours} hours" if too_late else f"{self.budget.tokens} tokens"
                self.log(f"the budget of {why} is spent: finishing what is in flight; raise it and run again to go on")
        return self.budget_spent

    def _pass_on_failure(self, task: asyncio.Task[None]) -> None:
        """A task that broke (disk full in a flush, a fault of ours) stops the run instead of being lost."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.arrivals.put_nowait(error)

    async def _resume(self) -> Iterator[tuple[str, int, bool]]:
        """Verdicts already in the pool; rows graded by an older grader or reference are graded again, and kept."""
        for name in self.writer.set_aside:
            self.log(f"pool {self.setting.identity}: set aside {name}")
        queries = list(self.queries.values())
        ledger = self.reader.ledger(queries, self.grading.version)
        if len(ledger):
            self.log(f"pool {self.setting.identity}: going on from {len(ledger)} trials")
        if ledger.ungraded:
            self.log(f"regrading {ledger.ungraded} rows (no grade by this grader and reference yet)")
            for trials in self.reader.ungraded(queries, self.grading.version):
                await asyncio.gather(*(self._grade(trial) for trial in trials))
                self.writer.flush()
            ledger = self.reader.ledger(queries, self.grading.version)
        self.guards.verdicts = Counter(ledger.verdict_counts())
        return ledger.graded()

    async def _ask(self, query_id: str, trial: int) -> None:
        """One trial, with retries, graded; puts its verdict, or None after the last failure, on the arrivals."""
        query = self.queries[query_id]
        seed = trial_seed(self.setting.sampling_seed, query_id, trial)
        completion = await self._complete(query, trial, seed)
        if completion is None:
            self.outstanding -= 1
            self.arrivals.put_nowait((query_id, trial, None))
            return
        self.guards.note_reply()
        reply = self._keep(query_id, trial, seed, completion)
        self.arrivals.put_nowait((query_id, trial, await self._grade(reply)))

    async def _complete(self, query: Query, trial: int, seed: int) -> Completion | None:
        """A usable reply, by up to MAX_ATTEMPTS requests; None when there is none. A rate limit is no attempt."""
        attempt, insisted = 0, True
        while True:
            try:
                if query.query_id not in self.prompts:
                    self.prompts[query.query_id] = await self.engine.encode(self.template.render(query.query))
                prompt = self.prompts[query.query_id]
                return checked(await self.engine.complete(prompt, self.sampling, seed), self.sampling.stop)
            except EngineBusy as error:  # the engine keeps the pace
                self.guards.check_failure(error, self.outstanding)
            except EngineError as error:
                self.guards.failed_requests += 1
                self.prompts.pop(query.query_id, None)  # the engine may have learnt to put it in another way
                self.reasons[query.query_id] = str(error)
                self.writer.add_attempt(Attempt(query.query_id, trial, attempt, str(error)[:500], time.time()))
                self.guards.check_failure(error, self.outstanding)
                attempt, insisted = attempt + 1, insisted and error.completion is not None
                if attempt == MAX_ATTEMPTS or not error.retryable:
                    return error.completion if insisted else None
                await asyncio.sleep(FIRST_RETRY_SECONDS * 2 ** (attempt - 1))

    def _keep(self, query_id: str, trial: int, seed: int, completion: Completion) -> Trial:
        """Record a reply as a trial of the pool, before it is graded."""
        row = Trial(
            query_id=query_id,
            trial=trial,
            seed=seed,
            setting=self.setting.identity,
            response=completion.text,
            finish_reason=completion.finish_reason,
            n_tokens=completion.n_tokens,
            logprob_sum=completion.logprob_sum,
            engine=self.engine.name,
            seconds=completion.seconds,
        )
        self.writer.add_trial(row)
        self.outstanding -= 1
        self.trials_new += 1
        self.tokens_new += row.n_tokens
        return row

    async def _grade(self, trial: Trial) -> Verdict:
        query = self.queries[trial.query_id]
        answer, verdict, reason = await self.grading.grade(query, trial.response, trial.finish_reason)
        self.guards.note_verdict(trial, verdict)
        key = grader_key(self.grading.version, query)
        judged = (trial.query_id, trial.trial, answer, verdict.value, reason, key, trial.response_hash)
        self.writer.add_grade(Grade(*judged))
        return verdict

    async def _keep_flushing(self, scheduler: Scheduler) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.progress.tick(scheduler, self.trials_new, self.tokens_new)  # also while no reply comes
            self.writer.flush()
            await asyncio.to_thread(self.writer.compact)

    def _report(self, scheduler: Scheduler, seconds: float) -> SamplingReport:
        stuck = scheduler.stuck
        if stuck:
            why = f"first {stuck[0]}, last failure: {self.reasons.get(stuck[0], self.guards.last_failure)}"
            self.log(f"{len(stuck)} queries are stuck (no usable reply): run again to go on, {why}")
        if stuck and not scheduler.trials_known:
            raise SamplingError(f"the engine answered no request; the last failure was: {self.guards.last_failure}")
        return SamplingReport(
            pool=self.reader.folder,
            setting=self.setting.identity,
            queries=len(self.queries),
            finished=scheduler.n_finished,
            trials_new=self.trials_new,
            trials_in_pool=scheduler.trials_known,
            tokens_new=self.tokens_new,
            seconds=seconds,
            wasted_trials=scheduler.realised_waste,
            verdicts={verdict.value: self.guards.verdicts[verdict.value] for verdict in Verdict}
            | {Verdict.ERROR.value: self.guards.failed_requests},
            failed_requests=self.guards.failed_requests,
            stuck=stuck,
            budget_spent=self.budget_spent and scheduler.n_finished < len(self.queries),
        )


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are gone: an aborted request frees its engine slot."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
