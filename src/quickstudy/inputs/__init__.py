"""Raw items (image files, arrays, texts, sounds) to tensors: the same in training and in use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
