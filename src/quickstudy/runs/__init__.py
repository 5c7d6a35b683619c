"""A finished or interrupted run: its directory, checkpoints and history, and loading it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
