"""What is asked: prompt templates, the procedural ladders, known data sets, and files of own problems."""

from dartlib.queries.benchmarks import benchmark_shots, benchmark_template, broken_items, choose_queries
from dartlib.queries.catalogue import Source, benchmark_names, get_source, load_catalogue
from dartlib.queries.contamination import NGRAM_WORDS, Overlap, benchmark_overlaps, find_overlaps
from dartlib.queries.fields import read_training_rows
from dartlib.queries.files import read_rows
from dartlib.queries.hub import data_folder, fetch_source, find_source, local_file, missing_columns, probe_source
from dartlib.queries.joining import join_texts, normalise_text
from dartlib.queries.ladder import LADDERS, build_ladder, canonical_key, ladder_table, ladder_version, worked_solution
from dartlib.queries.sources import known_sets, load_known_queries, load_queries, read_queries
from dartlib.queries.templates import CHAT, TEMPLATES, Template, get_template

__all__ = [
    "CHAT",
    "LADDERS",
    "NGRAM_WORDS",
    "TEMPLATES",
    "Overlap",
    "Source",
    "Template",
    "benchmark_names",
    "benchmark_overlaps",
    "benchmark_shots",
    "benchmark_template",
    "broken_items",
    "build_ladder",
    "canonical_key",
    "choose_queries",
    "data_folder",
    "fetch_source",
    "find_overlaps",
    "find_source",
    "get_source",
    "get_template",
    "join_texts",
    "known_sets",
    "ladder_table",
    "ladder_version",
    "load_catalogue",
    "load_known_queries",
    "load_queries",
    "local_file",
    "missing_columns",
    "normalise_text",
    "probe_source",
    "read_queries",
    "read_rows",
    "read_training_rows",
    "worked_solution",
]
