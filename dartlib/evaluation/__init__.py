"""Benchmark runs: greedy answers from the same pool and grader as synthesis, accuracy with intervals."""

from dartlib.evaluation.benchmark import EvaluationError, EvaluationReport, evaluate

__all__ = ["EvaluationError", "EvaluationReport", "evaluate"]
