"""Asking until told to stop: the pool of numbered trials, and the scheduler that decides what to ask next."""

from dartlib.sampling.demand import Budget as Budget
from dartlib.sampling.demand import ConstantPolicy as ConstantPolicy
from dartlib.sampling.demand import Demand as Demand
from dartlib.sampling.demand import Policy as Policy
from dartlib.sampling.demand import meeting_index as meeting_index
from dartlib.sampling.guards import SamplingError as SamplingError
from dartlib.sampling.ledger import Ledger as Ledger
from dartlib.sampling.pool import SAMPLING_VERSION as SAMPLING_VERSION
from dartlib.sampling.pool import PoolError as PoolError
from dartlib.sampling.pool import Setting as Setting
from dartlib.sampling.pool import read_setting as read_setting
from dartlib.sampling.pool import trial_seed as trial_seed
from dartlib.sampling.reader import PoolReader as PoolReader
from dartlib.sampling.reader import open_pool as open_pool
from dartlib.sampling.regrading import regrade as regrade
from dartlib.sampling.runner import SamplingReport as SamplingReport
from dartlib.sampling.runner import sample as sample
from dartlib.sampling.scheduler import Scheduler as Scheduler
