"""How well a strategy learns classes that it never saw."""

from quickstudy.evaluation.evaluator import evaluate
from quickstudy.evaluation.report import Estimate, Report

__all__ = ["Estimate", "Report", "evaluate"]
