"""How often to ask: difficulty, allocation, stopping, and the data sets cut from one pool."""

from dartlib.synthesis.allocation import fail_rate, power_quotas, prop2diff_quotas, uniform_quotas
from dartlib.synthesis.card import data_card
from dartlib.synthesis.curation import Sample, cut, match_rows, prefixes
from dartlib.synthesis.difficulty import Priors, check_calibration, counts_of, fit_priors, measure_difficulty
from dartlib.synthesis.filters import curate, red_flag_table, with_originals
from dartlib.synthesis.matching import MatchedSet, match_dataset
from dartlib.synthesis.options import SynthesisOptions
from dartlib.synthesis.pass_rates import PassRate, match_pass_rates, read_pass_rates
from dartlib.synthesis.stopping import PosteriorStopping, StoppingRule, judge, unmet_queries
from dartlib.synthesis.strategies import StrategyPolicy, StrategySettings
from dartlib.synthesis.synthesize import SynthesisReport, synthesize
from dartlib.synthesis.triage import triage
from dartlib.synthesis.truth import MEASURED_VERIFIER, VerifierCard, right_shares

__all__ = [
    "MEASURED_VERIFIER",
    "MatchedSet",
    "PassRate",
    "PosteriorStopping",
    "Priors",
    "Sample",
    "StoppingRule",
    "StrategyPolicy",
    "StrategySettings",
    "SynthesisOptions",
    "SynthesisReport",
    "VerifierCard",
    "check_calibration",
    "counts_of",
    "curate",
    "cut",
    "data_card",
    "fail_rate",
    "fit_priors",
    "judge",
    "match_dataset",
    "match_pass_rates",
    "match_rows",
    "measure_difficulty",
    "power_quotas",
    "prefixes",
    "prop2diff_quotas",
    "read_pass_rates",
    "red_flag_table",
    "right_shares",
    "synthesize",
    "triage",
    "uniform_quotas",
    "unmet_queries",
    "with_originals",
]
