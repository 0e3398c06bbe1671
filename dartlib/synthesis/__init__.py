"""How often to ask: difficulty, allocation, stopping, and the data sets cut from one pool."""

from dartlib.synthesis.allocation import power_quotas as power_quotas
from dartlib.synthesis.allocation import prop2diff_quotas as prop2diff_quotas
from dartlib.synthesis.allocation import uniform_quotas as uniform_quotas
from dartlib.synthesis.curation import curate as curate
from dartlib.synthesis.curation import cut as cut
from dartlib.synthesis.curation import match_dataset as match_dataset
from dartlib.synthesis.curation import read_prefixes as read_prefixes
from dartlib.synthesis.curation import rows_of as rows_of
from dartlib.synthesis.curation import with_originals as with_originals
from dartlib.synthesis.datasets import write_dataset as write_dataset
from dartlib.synthesis.difficulty import counts_of as counts_of
from dartlib.synthesis.difficulty import fit_priors as fit_priors
from dartlib.synthesis.difficulty import measure_difficulty as measure_difficulty
from dartlib.synthesis.red_flags import red_flag_table as red_flag_table
from dartlib.synthesis.stopping import StoppingRule as StoppingRule
from dartlib.synthesis.stopping import unmet_queries as unmet_queries
from dartlib.synthesis.strategies import StrategyPolicy as StrategyPolicy
from dartlib.synthesis.strategies import StrategySettings as StrategySettings
from dartlib.synthesis.synthesize import SynthesisReport as SynthesisReport
from dartlib.synthesis.synthesize import synthesize as synthesize
from dartlib.synthesis.triage import triage as triage
from dartlib.synthesis.verifier import MEASURED_VERIFIER as MEASURED_VERIFIER
from dartlib.synthesis.verifier import VerifierCard as VerifierCard
