"""Former names work, and warn."""

import numpy as np
import pytest
import torch

from quickstudy.classifier.encoders import load_encoder
from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.deprecated import renamed_arguments
from quickstudy.inputs import FeatureInputs, ImageInputs


def test_a_renamed_argument_is_passed_on_under_its_new_name():
    @renamed_arguments(kind="modality")
    def shown(modality="image"):
        return modality

    with pytest.warns(DeprecationWarning, match="kind.*now called modality.*version 1.0") as found:
        assert shown(kind="text") == "text"
    assert found[0].filename == __file__
    assert shown(modality="audio") == "audio"
    with pytest.raises(TypeError, match="both modality and kind"):
        shown(kind="text", modality="text")


def test_inputs_still_have_a_kind():
    for inputs in (ImageInputs(8), ImageInputs):
        with pytest.warns(DeprecationWarning, match="ImageInputs.kind is now called modality"):
            assert inputs.kind == "image"


def test_encoders_are_loaded_by_kind():
    with (
        pytest.warns(DeprecationWarning, match="argument kind of load_encoder"),
        pytest.raises(ValueError, match="The modality 'smell' is unknown"),
    ):
        load_encoder("anything", kind="smell")


def test_a_class_of_inputs_that_defines_kind_is_taken():
    class Roots:
        kind = "roots"

        def decode(self, raw):
            return torch.tensor([raw**0.5])

        def prepare(self, stored):
            return stored

        def to_dict(self):
            return {"kind": self.kind}

    with pytest.warns(DeprecationWarning, match="attribute kind of Roots is now called modality"):
        data = ClassDataset.from_arrays(list(range(4)), list("abab"), Roots())
    assert data.inputs.modality == "roots"
    assert np.allclose(data.examples[0], 0)
    assert FeatureInputs.modality == "features"


def test_data_are_loaded_by_former_names_of_splits(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\nhello,a\ngoodbye,b\n")
    (tmp_path / "test.csv").write_text("text,label\nhi,a\nbye,b\n")
    with pytest.warns(DeprecationWarning, match="data_split of load_dataset is now called split"):
        assert load_dataset(tmp_path, data_split="train").class_names == ("a", "b")
