"""Load the published numbers: one CSV file per table or figure of DART-Math (arXiv 2407.13690).

Every row has ``value``, ``source`` (where it was seen) and ``mark``: ``verified`` (printed there), ``figure``
(read off the vector paths of a figure, about 0.1 points or 0.5 % of the axis), ``derived`` (our arithmetic on the
others) or ``secondary`` (somebody else's count or description). Numbers that could not be seen are absent, not guessed:
those of table 6 (accuracy per domain) and the printed ones of table 4 (coverage). Accuracies and coverages in percent.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from dartlib.records import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

MARKS = ("verified", "figure", "derived", "secondary")


def published_names() -> list[str]:
    """Names that load_published accepts, sorted."""
    return sorted(item.name.removesuffix(".csv") for item in files(__package__).iterdir() if item.name.endswith(".csv"))


def load_published(name: str) -> pd.DataFrame:
    """One published table as a DataFrame with at least ``value`` (float), ``source`` and ``mark``.

    Raises ValueError naming the closest table when there is none of that name.
    """
    import pandas as pd

    names = published_names()
    if name not in names:
        raise ValueError(f"no published table {name!r}; {did_you_mean(name, names)}")
    with files(__package__).joinpath(f"{name}.csv").open("r", encoding="utf-8") as handle:
        table = pd.read_csv(handle)
    table["value"] = table["value"].astype(float)
    return table
