"""What tests of encoders share: encoders and images of which nothing is at its default."""

import torch


def lively(encoder, seed=0):
    """The encoder in float64 and evaluation mode, all its numbers away from their defaults."""
    generator = torch.Generator().manual_seed(seed)
    encoder = encoder.double().eval()
    for name, tensor in encoder.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.add_(noise if name.endswith("running_var") else noise - 0.5)
    return encoder


def images(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
