"""What if: simulated and replayed teachers, temperature, cost, published pools. No data set needs it."""

from dartlib.lab.published_pools import cut_published_pool
from dartlib.lab.replay import judge, replay_table, replay_teacher
from dartlib.lab.simulation import (
    SimulatedTeacher,
    calibrated_pass_rates,
    cut_by_policy,
    draw_pass_rates,
    estimate_cost,
)
from dartlib.lab.temperature import search_temperature
