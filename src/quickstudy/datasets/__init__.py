"""Examples grouped by class: loading, named benchmarks, the built-in glyphs."""

from quickstudy.datasets.catalogue import Availability, Benchmark, available_datasets
from quickstudy.datasets.dataset import ClassDataset
from quickstudy.datasets.loading import load_dataset

__all__ = ["Availability", "Benchmark", "ClassDataset", "available_datasets", "load_dataset"]
