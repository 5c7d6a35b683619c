"""Networks that map inputs to vectors. Any ``nn.Module`` that does so is an encoder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
