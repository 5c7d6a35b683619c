"""How to make the strategies of this family."""

import torch

import quickstudy.strategies as package
from quickstudy.encoders import TextEncoder
from quickstudy.episodes import Examples

from .case import Case, encoder

VOCABULARY = 40


class ReadingPixels(package.DistributionalSignatures):
    """Takes the pixels of a small image for the words of a text, dark ones for padding."""

    def encode(self, inputs, theta):
        return super().encode(words_of(inputs), theta)

    def condition(self, support, ways):
        return super().condition(Examples(words_of(support.inputs), support.targets), ways)

    def count(self, texts):
        super().count(words_of(texts))


def words_of(images):
    return (9 * images.flatten(2)[:, :, :20]).long().clamp(0, VOCABULARY - 1)


def signatures(body, **arguments):
    texts = TextEncoder((20,), VOCABULARY, body, width=8, layers=1, dropout=0.0)
    strategy = ReadingPixels(texts, **arguments)
    strategy.count(torch.rand(1, 50, 1, 8, 8) * torch.rand(50, 1, 8, 8) * 4)
    return strategy


CASES: dict[str, dict[str, Case]] = {
    "R2D2": {
        "usual": Case(lambda: package.R2D2(encoder())),
        "small penalty": Case(lambda: package.R2D2(encoder(), penalty=0.01, scale=2.0)),
    },
    "DistributionalSignatures": {
        "bag": Case(lambda: signatures("bag")),
        "convolutional": Case(lambda: signatures("convolutional", smoothing=0.1, states=3)),
    },
    "LRD2": {
        "usual": Case(lambda: package.LRD2(encoder())),
        "one step": Case(lambda: package.LRD2(encoder(), newton_steps=1, penalty=0.1)),
    },
    "MetaOptNet": {
        "usual": Case(lambda: package.MetaOptNet(encoder())),
        "loose": Case(lambda: package.MetaOptNet(encoder(), regularization=1.0, scale=3.0)),
    },
}
