"""The paper's numbers as data files, each value with its source and mark."""

from dartlib.published.tables import MARKS as MARKS
from dartlib.published.tables import load_published as load_published
from dartlib.published.tables import published_names as published_names
