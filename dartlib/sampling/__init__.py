"""Asking until told to stop: the pool of numbered trials, and the scheduler that decides what to ask next."""

from dartlib.sampling.demand import Budget, Demand, Policy, meeting_index
from dartlib.sampling.guards import SamplingError
from dartlib.sampling.ledger import Ledger
from dartlib.sampling.pool import PoolError, Setting, trial_seed
from dartlib.sampling.reader import PoolReader, open_pool
from dartlib.sampling.regrading import regrade
from dartlib.sampling.runner import SamplingReport, sample
from dartlib.sampling.scheduler import Scheduler

__all__ = [
    "Budget",
    "Demand",
    "Ledger",
    "Policy",
    "PoolError",
    "PoolReader",
    "SamplingError",
    "SamplingReport",
    "Scheduler",
    "Setting",
    "meeting_index",
    "open_pool",
    "regrade",
    "sample",
    "trial_seed",
]
