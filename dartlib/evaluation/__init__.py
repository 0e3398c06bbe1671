"""Benchmark runs on the pool and grader of synthesis; result files with intervals; honest comparisons of them."""

from dartlib.evaluation.benchmark import evaluate
from dartlib.evaluation.comparison import Comparison, ComparisonError, compare_results
from dartlib.evaluation.gate import EvaluationError
from dartlib.evaluation.results import Protocol, Result, benchmark_version, read_result, write_result
