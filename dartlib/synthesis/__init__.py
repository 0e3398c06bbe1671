"""How often to ask: difficulty, allocation, stopping, and the data sets cut from one pool."""

from dartlib.synthesis.allocation import power_quotas, prop2diff_quotas, uniform_quotas
from dartlib.synthesis.curation import curate, cut, match_dataset, read_prefixes, rows_of
from dartlib.synthesis.datasets import write_dataset
from dartlib.synthesis.difficulty import counts_of, fit_priors, measure_difficulty
from dartlib.synthesis.options import SynthesisOptions
from dartlib.synthesis.pass_rates import match_pass_rates, read_pass_rates
from dartlib.synthesis.red_flags import red_flag_table
from dartlib.synthesis.stopping import StoppingRule, unmet_queries
from dartlib.synthesis.strategies import StrategyPolicy, StrategySettings
from dartlib.synthesis.synthesize import SynthesisReport, synthesize
from dartlib.synthesis.triage import triage
from dartlib.synthesis.verifier import MEASURED_VERIFIER, VerifierCard
