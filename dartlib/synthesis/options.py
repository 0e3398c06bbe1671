"""What a synthesis may do otherwise than the paper. Everything is off unless it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from dartlib.records import did_you_mean
from dartlib.sampling import Budget
from dartlib.synthesis.stopping import StoppingRule


@dataclass(frozen=True, slots=True)
class SynthesisOptions:
    """The options of notebook 02, each with the value that leaves the paper's procedure as it is."""

    exponent: float = 1.0  # beta of prop2diff: quota proportional to the fail rate to this power
    pass_rates: str = ""  # recorded pass rates in place of difficulty trials: see `read_pass_rates`
    give_up_below: float = 0.0  # give a query up when its chance of meeting the quota falls below this
    patience: int = 256  # but never an unsolved query before this many trials
    budget_tokens: int = 0  # end cleanly at this many response tokens in the pool; raise it to go on
    budget_hours: float = 0.0  # the same in hours of one call
    deduplicate: str = "off"  # exact or normalised: drop responses of one query that say the same
    pool: str = ""  # a folder of trials that several runs share
    allow_unusable: bool = False  # go on although most replies are cut or hold no answer

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Options by name. Raises ValueError for an unknown name (naming the closest) or a value of another type."""
        defaults = {item.name: item.default for item in fields(cls)}
        for name, value in values.items():
            if name not in defaults:
                raise ValueError(f"OPTIONS: no option {name!r}; {did_you_mean(name, defaults)}")
            kind = type(defaults[name])
            if type(value) not in ((int, float) if kind is float else (kind,)):  # True is no number here
                raise ValueError(f"OPTIONS: {name} is {value!r}, expected {kind.__name__} such as {defaults[name]!r}")
        return cls(**values)

    @property
    def stopping(self) -> StoppingRule | None:
        """The stopping rule, where one is asked for."""
        return StoppingRule(self.give_up_below, self.patience) if self.give_up_below else None

    @property
    def budget(self) -> Budget | None:
        """The budget, where one is asked for."""
        spent = Budget(tokens=self.budget_tokens or None, hours=self.budget_hours or None)
        return spent if self.budget_tokens or self.budget_hours else None
