"""What if: simulated and replayed teachers, temperature, cost, published pools. No data set needs it."""

from dartlib.lab.calibration import calibrated_lengths, calibrated_pass_rates
from dartlib.lab.published_pools import cut_published_pool, read_published_counts
from dartlib.lab.replay import judge, read_replay, replay_table, replay_teacher
from dartlib.lab.simulation import (
    SimulatedTeacher,
    Simulation,
    cut_by_policy,
    draw_pass_rates,
    estimate_cost,
    simulate,
)
from dartlib.lab.temperature import search_temperature

__all__ = [
    "SimulatedTeacher",
    "Simulation",
    "calibrated_lengths",
    "calibrated_pass_rates",
    "cut_by_policy",
    "cut_published_pool",
    "draw_pass_rates",
    "estimate_cost",
    "judge",
    "read_published_counts",
    "read_replay",
    "replay_table",
    "replay_teacher",
    "search_temperature",
    "simulate",
]
