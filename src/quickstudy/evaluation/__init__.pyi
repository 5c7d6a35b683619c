from .evaluator import evaluate
from .report import Estimate, Report

__all__ = [
    "Estimate",
    "Report",
    "evaluate",
]
