"""How φ is learned: the loop, run directories, checkpoints.

The trainer is imported when it is first used: loading what was trained does without it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
