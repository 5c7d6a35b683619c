"""What a process loads that uses a saved classifier."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

STORED = Path(__file__).parents[1] / "compatibility" / "stored"

USE = {
    "model": """
from pathlib import Path
from quickstudy.classifier import load_model
load_model(Path(sys.argv[1])).predict(np.zeros((1, 16), np.float32), keep=True)
""",
    "estimator": """
from quickstudy import FewShotClassifier
FewShotClassifier.load(sys.argv[1]).predict(np.zeros((1, 16), np.float32), keep=True)
""",
}
HEAVY = {"datasets", "lightning_fabric", "matplotlib", "tensorboard", "transformers", "soundfile"}
FORBIDDEN = {
    "model": HEAVY | {"sklearn", "scipy", "pandas", "pyarrow", "rich", "jsonargparse"},
    "estimator": HEAVY,  # scikit-learn imports scipy, and pandas if it is installed
}


@pytest.mark.parametrize("use", USE)
def test_a_saved_classifier_predicts_without_what_only_training_or_reading_data_needs(use):
    code = f"import json, sys\nimport numpy as np\n{USE[use]}\nprint(json.dumps([*sys.modules]))"
    command = [sys.executable, "-c", code, str(STORED / "vectors.qs")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    loaded = {name.partition(".")[0] for name in found}
    assert not loaded & FORBIDDEN[use]
    rooms = {name.split(".")[1] for name in found if name.startswith("quickstudy.")}
    assert not rooms & {"training", "sweeps", "cli", "index"}
    strategies = {name for name in found if name.startswith("quickstudy.strategies.")}
    files = {name.rpartition(".")[2] for name in strategies if name.count(".") == 3}
    assert files <= {"logistic_regression", "pretrained"}  # that of the file, and its base class
