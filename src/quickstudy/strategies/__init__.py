"""Learning strategies F(support; φ) → θ: one paper, one file, folders by family."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
