from .dataset import ClassDataset
from .loading import load_dataset
from .sources.catalogue import Availability, Benchmark, available_datasets

__all__ = [
    "Availability",
    "Benchmark",
    "ClassDataset",
    "available_datasets",
    "load_dataset",
]
