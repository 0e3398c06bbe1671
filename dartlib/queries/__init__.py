"""What is asked: prompt templates, the procedural ladders, and files of own problems."""

from dartlib.queries.ladder import LADDERS, build_ladder, canonical_key, ladder_table, ladder_version
from dartlib.queries.sources import load_queries, read_queries
from dartlib.queries.templates import TEMPLATES, Template, get_template

__all__ = [
    "LADDERS",
    "TEMPLATES",
    "Template",
    "build_ladder",
    "canonical_key",
    "get_template",
    "ladder_table",
    "ladder_version",
    "load_queries",
    "read_queries",
]
