"""Files that version 0.1.0 wrote are understood and answer as they did then."""

import importlib.util
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import quickstudy as qs

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("compatibility_builders", HERE / "builders.py")
builders = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(builders)

STORED = HERE / "stored"
# Equal to the bit on the machine that wrote them; another processor adds in another order.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}
# Three steps of training multiply that by a learning rate and a normalisation or two.
TRAINED = {"rtol": 1e-2, "atol": 1e-3}


@pytest.mark.parametrize("name", builders.STRATEGIES)
def test_a_run_answers_as_it_did(name):
    run = qs.load(STORED / "trained" / name, checkpoint="best")
    right = load_file(STORED / "trained" / name / "answers.safetensors")["half"]
    torch.testing.assert_close(builders.logits(run), right, **ROUNDING)


@pytest.mark.parametrize("name", builders.STRATEGIES)
def test_a_run_goes_on_as_it_would_have(name, tmp_path):
    shutil.copytree(STORED / "trained" / name, tmp_path / name)
    run = builders.train(name, tmp_path / name, resume=True)
    right = load_file(STORED / "trained" / name / "answers.safetensors")["whole"]
    torch.testing.assert_close(builders.logits(run), right, **TRAINED)


@pytest.mark.parametrize("name", builders.CLASSIFIERS)
def test_a_classifier_answers_as_it_did(name):
    right = json.loads((STORED / f"{name}.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = qs.FewShotClassifier.load(STORED / f"{name}.qs")
    found = builders.answers(loaded, builders.CLASSIFIERS[name][0])
    probabilities = right.pop("probabilities")
    np.testing.assert_allclose(found.pop("probabilities"), probabilities, **ROUNDING)
    assert found == right
