"""Models saved by other programs: recognising them, and how to use them here."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

_HDF5 = b"\x89HDF\r\n\x1a\n"
_BY_ENDING = {
    ".onnx": "an ONNX model",
    ".h5": "weights in HDF5, as Keras saves them",
    ".keras": "a Keras model",
    ".tflite": "a LiteRT model",
    ".gguf": "a GGUF model",
}
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".joblib")

_LOADING = {
    "pickle": 'torch.load("{name}", weights_only=True)',
    "safetensors": 'safetensors.torch.load_file("{name}")',
}


def is_named_like_a_model(name: str) -> bool:
    """Whether a name ends like the model files of other programs."""
    return name.lower().endswith((*_BY_ENDING, *_PICKLES, ".safetensors"))


def explanation(path: Path) -> str | None:
    """Explains a model file of another program and how to use it here; None for other files.

    The file is inspected, never unpickled.
    """
    if path.is_dir():
        return None
    with path.open("rb") as file:
        beginning = file.read(16)
    ending = path.suffix.lower()
    if beginning.startswith(_HDF5):
        return _other(path, _BY_ENDING[".h5"])
    if ending in _BY_ENDING:
        return _other(path, _BY_ENDING[ending])
    if _is_safetensors(path, beginning):
        return _weights(path, "weights saved by another program", "safetensors")
    if _is_pickle(path, beginning) or (ending in _PICKLES and beginning):
        what = "a pickle, which can run any code and is never loaded here"
        return _weights(path, what, "pickle")
    return None


def _is_safetensors(path: Path, beginning: bytes) -> bool:
    length = int.from_bytes(beginning[:8], "little")
    if not 2 <= length <= min(path.stat().st_size - 8, 100 * 2**20) or beginning[8:9] != b"{":
        return False
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(8 + length)[8:])
    except (ValueError, RecursionError):
        return False
    about = header.get("__metadata__") if isinstance(header, dict) else None
    tensors = [each for key, each in header.items() if key != "__metadata__"]
    whole = all(isinstance(each, dict) and "data_offsets" in each for each in tensors)
    return whole and bool(tensors) and not (isinstance(about, dict) and "quickstudy" in about)


def _is_pickle(path: Path, beginning: bytes) -> bool:
    if beginning[:1] == b"\x80" and beginning[1:2] in b"\x02\x03\x04\x05":
        return True
    if not beginning.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _weights(path: Path, what: str, form: str) -> str:
    loading = _LOADING[form].format(name=path.name)
    imports = "" if form == "pickle" else "\n    import safetensors.torch"
    return f"""{path} is {what}. If you trust them, load the weights into their network:

    import torch{imports}
    import quickstudy as qs
    from my_module import Net  # the class that they belong to

    net = Net()
    net.load_state_dict({loading})
    inputs = qs.inputs.ImageInputs(size=84)  # what it reads
    qs.FewShotClassifier(encoder=net, inputs=inputs).fit(files, labels).save("mine.qs")"""


def _other(path: Path, what: str) -> str:
    return (
        f"{path} is {what}, which cannot be read here. Convert the network to a PyTorch module "
        "that maps inputs to vectors, or compute the vectors yourself: "
        "FewShotClassifier().fit(vectors, labels) takes an array [N, D]."
    )
