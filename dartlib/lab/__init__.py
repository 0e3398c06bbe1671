"""What if: simulated and replayed teachers, temperature, cost, published pools. No data set needs it."""

from dartlib.lab.calibration import calibrated_lengths, calibrated_pass_rates
from dartlib.lab.published_pools import cut_published_pool
from dartlib.lab.replay import replay_table, replay_teacher
from dartlib.lab.simulation import (
    QuotaPolicy,
    SimulatedTeacher,
    Simulation,
    cut_by_policy,
    draw_pass_rates,
    estimate_cost,
    simulate,
)
from dartlib.lab.temperature import search_temperature

__all__ = [
    "QuotaPolicy",
    "SimulatedTeacher",
    "Simulation",
    "calibrated_lengths",
    "calibrated_pass_rates",
    "cut_by_policy",
    "cut_published_pool",
    "draw_pass_rates",
    "estimate_cost",
    "replay_table",
    "replay_teacher",
    "search_temperature",
    "simulate",
]
