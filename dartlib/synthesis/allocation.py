"""How many correct responses each query should get: pure functions from fail rates to quotas.

Difficulty is the fail rate, wrong / all over the difficulty trials of the sampling model (paper 3.2; the formula
printed in the preprint's appendix A.2 has it inverted, the text and the released code have it this way).
"""

import math
from collections.abc import Mapping, Sequence


def fail_rate(difficulty_verdicts: Sequence[bool]) -> float:
    """Share of wrong among the difficulty trials (True = correct).

    >>> fail_rate([True, False, False, False])
    0.75
    """
    if not difficulty_verdicts:
        raise ValueError("a fail rate needs at least one difficulty trial")
    return 1 - sum(difficulty_verdicts) / len(difficulty_verdicts)


def uniform_quotas(fail_rates: Mapping[str, float], *, k_u: int) -> dict[str, int]:
    """DARS-Uniform (paper 3.2): every query the same number of correct responses.

    >>> uniform_quotas({"easy": 0.1, "hard": 0.9}, k_u=4)
    {'easy': 4, 'hard': 4}
    """
    return {query_id: _positive("k_u", k_u) for query_id in fail_rates}


def prop2diff_quotas(fail_rates: Mapping[str, float], *, k_p: int) -> dict[str, int]:
    """DARS-Prop2Diff (paper 3.2): proportional to the fail rate, never under one; f = 1 would get ``k_p``.

    The paper's sources disagree about rounding; the published curves fit truncation with a floor of one, so
    ``max(1, floor(k_p * f))`` is used.

    >>> prop2diff_quotas({"easy": 0.0, "middle": 0.5, "hard": 1.0}, k_p=8)
    {'easy': 1, 'middle': 4, 'hard': 8}
    """
    return power_quotas(fail_rates, k=_positive("k_p", k_p), beta=1)


def power_quotas(fail_rates: Mapping[str, float], *, k: int, beta: float) -> dict[str, int]:
    """The family quota ∝ fail^beta with a floor of one: beta 0 is Uniform, beta 1 is Prop2Diff.

    A hair is added before truncating because 10 * (1 - 0.7) is 2.9999… in floating point.

    >>> power_quotas({"easy": 0.25, "hard": 1.0}, k=8, beta=0.5)
    {'easy': 4, 'hard': 8}
    """
    if beta < 0:
        raise ValueError(f"beta is {beta}: below 0 easy queries would get more than hard ones")
    top = _positive("k", k)
    return {query_id: max(1, math.floor(top * rate**beta + 1e-9)) for query_id, rate in fail_rates.items()}


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} is {value}: ask for at least one correct response per query")
    return value
