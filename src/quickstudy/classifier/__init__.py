"""From a handful of examples to a classifier: fit, predict, save, load.

The estimator is imported when it is first used: a saved classifier predicts without scikit-learn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
