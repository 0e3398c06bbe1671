"""Asking until told to stop: the pool of numbered trials, and the scheduler that decides what to ask next."""

from dartlib.sampling.demand import Budget, ConstantPolicy, Demand, Policy, meeting_index
from dartlib.sampling.guards import SamplingError
from dartlib.sampling.ledger import Ledger
from dartlib.sampling.pool import SAMPLING_VERSION, PoolError, Setting, read_setting, trial_seed
from dartlib.sampling.reader import PoolReader, open_pool
from dartlib.sampling.regrading import regrade
from dartlib.sampling.runner import SamplingReport, sample
from dartlib.sampling.scheduler import Scheduler
