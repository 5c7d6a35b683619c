"""Conditional neural processes (Garnelo et al., 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.strategies.bases.neural_process import NeuralProcess
from quickstudy.strategies.bases.perceptron import perceptron
from quickstudy.strategies.functional import class_means
from quickstudy.strategies.solvers import check_positive
from quickstudy.strategies.strategy import Theta


class ConditionalNeuralProcess(NeuralProcess):
    """The support becomes one vector, the mean of its examples' codes; a decoder reads it.

        r_i = h(f(x_i), y_i; φ),   r = mean of r_i,   (μ, σ) = g(f(x), r; φ)

    In regression the answer's distribution is N(μ, σ²), with σ = ε + (1 − ε) softplus(ω). In
    classification r_k is the mean of h(f(x_i)) over the support of class k, and the logit of class
    k is g(f(x), r_k, mean of r_1 .. r_K).

    Garnelo, Rosenbaum, Maddison, Ramalho, Saxton, Shanahan, Teh, Rezende, Eslami, "Conditional
    Neural Processes", ICML 2018, sections 2 and 4. ε is that of the authors' code. Likelihoods are
    of support and query in regression, as in the paper; of the query in classification.

    What differs: queries and examples are first mapped by an encoder f. For classification the
    paper gives g the r_k of all classes in a row, and it answers for all at once; here it answers
    for one class at a time, from its r_k beside the mean of all, so that it serves any number of
    classes and does not depend on how they are numbered.

    Args:
        width: the length of r, and of the hidden layers.
        layers: of h; 3 in the paper.
        decoder_layers: of g; 5 in the paper.
    """

    paper = "Garnelo, Rosenbaum, Maddison, Ramalho, Saxton, Shanahan, Teh, Rezende, Eslami, 2018"

    def __init__(
        self,
        encoder: nn.Module,
        target_size: int | None = None,
        width: int = 128,
        layers: int = 3,
        decoder_layers: int = 5,
        least_deviation: float = 0.1,
    ) -> None:
        super().__init__(encoder, target_size, width, width, decoder_layers, least_deviation)
        check_positive("ConditionalNeuralProcess", layers=layers)
        self.layers = layers
        self.codes = perceptron(self.pair_size, *[width] * layers)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        pairs, of_set, sets = self.sets(support, ways)
        return {"representation": class_means(self.codes(pairs), of_set, sets)}

    def representation(self, theta: Theta, features: Tensor) -> Tensor:
        return theta["representation"][:, None]
