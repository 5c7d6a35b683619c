"""Inputs that are vectors already."""

import pytest
import torch

from quickstudy.inputs import FeatureInputs, Inputs, inputs_from_dict


def test_feature_inputs_are_vectors_of_one_length():
    inputs = FeatureInputs(3)
    assert isinstance(inputs, Inputs)
    assert inputs.to_dict() == {"kind": "features", "size": 3}
    assert inputs_from_dict(inputs.to_dict()) == inputs
    vector = inputs.decode([1, 2.5, -1])
    assert vector.dtype == torch.float32
    assert torch.equal(inputs.prepare(vector[None])[0], vector)
    with pytest.raises(ValueError, match=r"vector of 3 numbers .* \[2\]"):
        inputs.decode([1, 2])
