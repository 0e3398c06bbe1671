"""How often to ask: difficulty, allocation, the policy of each strategy, and the data sets cut from one pool."""

from dartlib.synthesis.allocation import fail_rate, power_quotas, prop2diff_quotas, uniform_quotas
from dartlib.synthesis.card import data_card
from dartlib.synthesis.curation import Sample, cut, match_rows, prefixes
from dartlib.synthesis.filters import curate, red_flag_table, with_originals
from dartlib.synthesis.published_pools import cut_published_pool
from dartlib.synthesis.strategies import StrategyPolicy, StrategySettings, strategy_demand
from dartlib.synthesis.synthesize import SynthesisReport, synthesize
from dartlib.synthesis.triage import triage
from dartlib.synthesis.truth import VerifierCard, right_shares

__all__ = [
    "Sample",
    "StrategyPolicy",
    "StrategySettings",
    "SynthesisReport",
    "VerifierCard",
    "curate",
    "cut",
    "cut_published_pool",
    "data_card",
    "fail_rate",
    "match_rows",
    "power_quotas",
    "prefixes",
    "prop2diff_quotas",
    "red_flag_table",
    "right_shares",
    "strategy_demand",
    "synthesize",
    "triage",
    "uniform_quotas",
    "with_originals",
]
