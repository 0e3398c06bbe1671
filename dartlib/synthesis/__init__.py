"""How often to ask: difficulty, allocation, the policy of each strategy, and the data sets cut from one pool."""

from dartlib.synthesis.allocation import fail_rate, power_quotas, prop2diff_quotas, uniform_quotas
from dartlib.synthesis.card import data_card
from dartlib.synthesis.curation import Sample, cut, match_rows, prefixes
from dartlib.synthesis.strategies import StrategyPolicy, StrategySettings, strategy_demand
from dartlib.synthesis.synthesize import SynthesisReport, synthesize

__all__ = [
    "Sample",
    "StrategyPolicy",
    "StrategySettings",
    "SynthesisReport",
    "cut",
    "data_card",
    "fail_rate",
    "match_rows",
    "power_quotas",
    "prefixes",
    "prop2diff_quotas",
    "strategy_demand",
    "synthesize",
    "uniform_quotas",
]
