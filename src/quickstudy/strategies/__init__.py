"""Learning strategies F(support; φ) → θ: one paper, one file, folders by family."""

from quickstudy.strategies.amortized.hypernetwork import Hypernetwork
from quickstudy.strategies.finetune.nearest_neighbor import NearestNeighbor
from quickstudy.strategies.gradient.maml import MAML
from quickstudy.strategies.metric.approximate_prototype_index import ApproximatePrototypeIndex
from quickstudy.strategies.metric.prototype_index import Nearest, PrototypeIndex
from quickstudy.strategies.metric.prototypical_network import PrototypicalNetwork
from quickstudy.strategies.strategy import EmbeddingStrategy, Strategy, Theta

__all__ = [
    "MAML",
    "ApproximatePrototypeIndex",
    "EmbeddingStrategy",
    "Hypernetwork",
    "Nearest",
    "NearestNeighbor",
    "PrototypeIndex",
    "PrototypicalNetwork",
    "Strategy",
    "Theta",
]
