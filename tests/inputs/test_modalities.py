"""The table of modalities: each row names classes that exist and fit together."""

import pytest

from quickstudy.encoders import Encoder
from quickstudy.inputs import ImageInputs, TextInputs, inputs_from_dict
from quickstudy.inputs.modalities import MODALITIES, decoded, imported, modality_of_file


@pytest.mark.parametrize("name", MODALITIES)
def test_the_classes_of_a_row_exist(name):
    row = MODALITIES[name]
    assert imported(row.inputs).modality == name
    if row.pretrained_inputs is not None:
        assert imported(row.pretrained_inputs).modality == name
    assert issubclass(imported(row.encoder), Encoder)
    assert imported(row.pretrained_encoder).towers


def test_default_inputs_are_described_as_any_others():
    for row in MODALITIES.values():
        inputs = row.default_inputs()
        assert inputs is None or inputs_from_dict(inputs.to_dict()) == inputs
    assert MODALITIES["image"].default_inputs() == ImageInputs(
        84, channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert MODALITIES["text"].default_inputs() is None  # its subwords are learned


def test_an_ending_tells_the_modality():
    assert modality_of_file("a/b.JPG") == "image"
    assert modality_of_file("a.b.flac") == "audio"
    assert modality_of_file("notes.txt") == "text"
    assert modality_of_file("train.csv") is None


def test_a_path_stands_for_the_text_in_the_file(tmp_path):
    (tmp_path / "one.txt").write_text("where is it")
    inputs = TextInputs.learned(["where is it"], length=4)
    assert decoded(inputs, tmp_path / "one.txt").equal(inputs.decode("where is it"))
