from .approximate_prototype_index import ApproximatePrototypeIndex
from .prototype_index import Nearest, PrototypeIndex

__all__ = [
    "ApproximatePrototypeIndex",
    "Nearest",
    "PrototypeIndex",
]
