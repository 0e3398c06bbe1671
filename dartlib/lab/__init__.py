"""What if: simulated and replayed teachers, temperature, cost, published pools. No data set needs it."""

from dartlib.lab.published_pools import cut_published_pool as cut_published_pool
from dartlib.lab.replay import judge as judge
from dartlib.lab.replay import replay_table as replay_table
from dartlib.lab.replay import replay_teacher as replay_teacher
from dartlib.lab.simulation import SimulatedTeacher as SimulatedTeacher
from dartlib.lab.simulation import calibrated_pass_rates as calibrated_pass_rates
from dartlib.lab.simulation import cut_by_policy as cut_by_policy
from dartlib.lab.simulation import draw_pass_rates as draw_pass_rates
from dartlib.lab.simulation import estimate_cost as estimate_cost
from dartlib.lab.temperature import search_temperature as search_temperature
