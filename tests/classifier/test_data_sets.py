"""Data sets of other libraries given to a classifier: taken as they are, or a sentence."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from quickstudy import ClassDataset, FewShotClassifier
from quickstudy.inputs import ImageInputs
from quickstudy.strategies import PrototypicalNetwork

INPUTS = ImageInputs(8)
Y = ["dark"] * 4 + ["light"] * 4


class Pooled(nn.Module):
    """Vectors of 4x4 pixels."""

    out_features = 48

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


class OfTorch(torch.utils.data.Dataset):
    """A data set of torch, of things that are given."""

    def __init__(self, things):
        self.things = list(things)

    def __len__(self):
        return len(self.things)

    def __getitem__(self, number):
        return self.things[number]


def images():
    draw = torch.Generator().manual_seed(0)
    shape = (4, 3, 8, 8)
    halves = [torch.randint(low, low + 120, shape, generator=draw) for low in (0, 130)]
    return torch.cat(halves).to(torch.uint8)


def pil():
    return [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in images()]


def fitted(X, y=None, **settings):
    settings = {"encoder": Pooled(), "inputs": INPUTS} | settings
    return FewShotClassifier(**settings).fit(X, y)


def of_hub():
    hub = pytest.importorskip("datasets")
    kinds = {"image": hub.Image(), "label": hub.ClassLabel(names=["dark", "light"])}
    return hub.Dataset.from_dict(
        {"image": pil(), "label": [0] * 4 + [1] * 4}, features=hub.Features(kinds)
    )


def named_like_torchvision():
    data = OfTorch(zip(pil(), [0] * 4 + [1] * 4, strict=True))
    data.classes = ["dark", "light"]
    return data


@pytest.mark.parametrize(
    ("form", "y"),
    [
        (lambda: OfTorch(pil()), Y),
        (lambda: OfTorch(images()), Y),
        (lambda: torch.utils.data.TensorDataset(images()), Y),
        (lambda: OfTorch(zip(pil(), Y, strict=True)), None),
        (lambda: [*zip(pil(), Y, strict=True)], None),
        (lambda: [{"image": i, "label": n} for i, n in zip(pil(), Y, strict=True)], None),
        (named_like_torchvision, None),
        (lambda: torch.utils.data.Subset(named_like_torchvision(), range(8)), None),
        (lambda: of_hub()["image"], Y),
        (of_hub, Y),
        (of_hub, None),
    ],
)
def test_a_classifier_takes_images_as_data_sets_have_them(form, y):
    right = fitted(pil(), Y)
    found = fitted(form(), y)
    assert found.classes_.tolist() == ["dark", "light"]
    np.testing.assert_array_equal(found.predict_proba(pil()), right.predict_proba(pil()))
    # What is asked about may come with its labels too.
    np.testing.assert_array_equal(found.predict_proba(form()), right.predict_proba(pil()))
    assert found.score(form(), y) == 1
    grown = found.partial_fit(form(), y)
    assert sum(grown.model_.sizes.values()) == 16


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.float() / 255,
        lambda x: [each.float() / 255 for each in x],
        lambda x: x.permute(0, 2, 3, 1).numpy(),
        lambda x: x.permute(0, 2, 3, 1).numpy() / 255,
        lambda x: x.long(),
    ],
)
def test_images_in_arrays_are_what_they_are_as_files(form):
    right, found = fitted(pil(), Y), fitted(form(images()), Y)
    np.testing.assert_array_equal(found.predict_proba(pil()), right.predict_proba(pil()))


@pytest.mark.parametrize(
    ("given", "y", "said"),
    [
        (lambda: images().float(), Y, "floats between 0 and 1"),
        (lambda: (images() > 125).long(), Y, "largest value of the images is 1"),
        (lambda: torch.utils.data.DataLoader(OfTorch(images())), Y, "give its data set"),
        (lambda: {"train": pil(), "test": pil()}, Y, r"dict.*'train', 'test'.*parts\['train'\]"),
        (lambda: OfTorch(zip(pil(), Y, strict=True)), Y, "pairs.*labels=None"),
        (lambda: ClassDataset.from_arrays(images(), Y, INPUTS), None, "are a ClassDataset"),
        (lambda: [{"x": each} for each in pil()], Y, "'x', and it is not clear which"),
        (pil, None, "labels are needed|no labels"),
        (lambda: None, Y, "a list of inputs is needed|NoneType"),
    ],
)
def test_what_holds_no_inputs_is_refused(given, y, said):
    with pytest.raises(ValueError, match=said):
        fitted(given(), y)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"encoder": Pooled}, r"class Pooled; give an object of it, such as Pooled\(\)"),
        ({"encoder": lambda x: x.flatten(1)}, "a function; a torch module is needed"),
        ({"encoder": PrototypicalNetwork(Pooled())}, "which is a strategy: give it as strategy="),
        ({"inputs": ImageInputs}, "the class ImageInputs; "),
        ({"inputs": "image"}, "'image'; "),
    ],
)
def test_what_is_no_encoder_or_inputs_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        fitted(pil(), Y, **settings)


def test_sounds_with_their_rates_are_no_pairs():
    from quickstudy.inputs import AudioInputs

    waves = np.sin(np.arange(400)[None] / (3 + np.arange(8)[:, None])).astype("f4") / 2
    settings = {"encoder": nn.Identity(), "inputs": AudioInputs(1000, 0.2)}
    pairs = [(wave, 2000) for wave in waves]
    right = fitted(pairs, Y, **settings)
    assert right.predict(pairs).shape == (8,)
    records = [{"audio": {"array": wave, "sampling_rate": 2000}} for wave in waves]
    for form in (records, [each["audio"] for each in records], OfTorch(pairs)):
        found = fitted(form, Y, **settings)
        np.testing.assert_array_equal(found.predict_proba(form), right.predict_proba(pairs))


def test_vectors_of_a_data_set_are_vectors():
    points = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(points, torch.tensor([0] * 4 + [1] * 4))
    found = FewShotClassifier().fit(data)
    right = FewShotClassifier().fit(points, [0] * 4 + [1] * 4)
    assert found.n_features_in_ == 4
    np.testing.assert_array_equal(found.predict_proba(data), right.predict_proba(points))
    np.testing.assert_array_equal(found.predict_proba([*points]), right.predict_proba(points))
    assert 0 <= found.score(data) <= 1


def test_tables_of_images_are_read_by_their_one_column():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"image": pil()})
    right = fitted(pil(), Y)
    np.testing.assert_array_equal(fitted(table, Y).predict_proba(table), right.predict_proba(pil()))
    with pytest.raises(ValueError, match=r"2 columns, and 'image' holds .*df\['image'\]"):
        fitted(table.assign(n=range(8)), Y)
