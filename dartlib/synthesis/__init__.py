"""How often to ask: difficulty, allocation, stopping, simulation, and the data sets cut from one pool."""

from dartlib.synthesis.allocation import fail_rate, power_quotas, prop2diff_quotas, uniform_quotas
from dartlib.synthesis.calibration import calibrated_lengths, calibrated_pass_rates
from dartlib.synthesis.card import data_card
from dartlib.synthesis.curation import Sample, cut, match_rows, prefixes
from dartlib.synthesis.difficulty import Priors, check_calibration, fit_priors, measure_difficulty
from dartlib.synthesis.filters import curate, red_flag_table, with_originals
from dartlib.synthesis.matching import MatchedSet, match_dataset
from dartlib.synthesis.published_pools import cut_published_pool, read_published_counts
from dartlib.synthesis.replay import counts_of, read_replay, replay_table, replay_teacher
from dartlib.synthesis.simulation import (
    QuotaPolicy,
    SimulatedTeacher,
    Simulation,
    cut_by_policy,
    draw_pass_rates,
    estimate_cost,
    simulate,
)
from dartlib.synthesis.stopping import PosteriorStopping, StoppingRule, judge, unmet_queries
from dartlib.synthesis.strategies import StrategyPolicy, StrategySettings
from dartlib.synthesis.synthesize import SynthesisReport, synthesize
from dartlib.synthesis.temperature import search_temperature
from dartlib.synthesis.triage import triage
from dartlib.synthesis.truth import MEASURED_VERIFIER, VerifierCard, right_shares

__all__ = [
    "MEASURED_VERIFIER",
    "MatchedSet",
    "PosteriorStopping",
    "Priors",
    "QuotaPolicy",
    "Sample",
    "SimulatedTeacher",
    "Simulation",
    "StoppingRule",
    "StrategyPolicy",
    "StrategySettings",
    "SynthesisReport",
    "VerifierCard",
    "calibrated_lengths",
    "calibrated_pass_rates",
    "check_calibration",
    "counts_of",
    "curate",
    "cut",
    "cut_by_policy",
    "cut_published_pool",
    "data_card",
    "draw_pass_rates",
    "estimate_cost",
    "fail_rate",
    "fit_priors",
    "judge",
    "match_dataset",
    "match_rows",
    "measure_difficulty",
    "power_quotas",
    "prefixes",
    "prop2diff_quotas",
    "read_published_counts",
    "read_replay",
    "red_flag_table",
    "replay_table",
    "replay_teacher",
    "right_shares",
    "search_temperature",
    "simulate",
    "synthesize",
    "triage",
    "uniform_quotas",
    "unmet_queries",
    "with_originals",
]
