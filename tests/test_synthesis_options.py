"""Options of a synthesis: off unless asked for, and never misspelt in silence."""

from __future__ import annotations

import pytest

from dartlib.sampling import Budget
from dartlib.synthesis import StoppingRule, SynthesisOptions


def test_everything_is_off_by_default() -> None:
    options = SynthesisOptions.of({})
    assert (options.exponent, options.pass_rates, options.deduplicate, options.pool) == (1.0, "", "off", "")
    assert options.stopping is None and options.budget is None


def test_every_option_changes_what_it_names() -> None:
    values = {"exponent": 2, "pass_rates": "rates.jsonl", "give_up_below": 0.1, "patience": 64, "budget_tokens": 10}
    options = SynthesisOptions.of(
        {**values, "budget_hours": 0.5, "deduplicate": "exact", "pool": "shared", "allow_unusable": True}
    )
    assert options.exponent == 2 and options.pass_rates == "rates.jsonl"
    assert options.stopping == StoppingRule(0.1, 64)
    assert options.budget == Budget(tokens=10, hours=0.5)
    assert (options.deduplicate, options.pool, options.allow_unusable) == ("exact", "shared", True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patence": 3}, "no option 'patence'; did you mean 'patience'"),
        ({"patience": 2.5}, "patience is 2.5, expected int such as 256"),
        ({"patience": True}, "patience is True, expected int"),
        ({"deduplicate": 1}, "deduplicate is 1, expected str such as 'off'"),
        ({"exponent": "2"}, "exponent is '2', expected float"),
    ],
)
def test_a_wrong_option_is_an_error_that_helps(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SynthesisOptions.of(values)
