"""ClassDataset.from_arrays: examples and labels as people have them."""

import datetime
import enum

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.datasets import ClassDataset
from quickstudy.inputs import AudioInputs, FeatureInputs, ImageInputs, TextInputs, UnreadableError

INPUTS = ImageInputs(8, mean=(0.5,), std=(0.25,))
NAMES = [f"c{number}" for number in range(3) for _ in range(2)]


def stored(channels=3):
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, channels, 8, 8), generator=draw, dtype=torch.uint8)


def everything(data):
    """All examples as a network reads them."""
    classes = torch.arange(data.classes).repeat_interleave(data.sizes)
    positions = torch.cat([torch.arange(size) for size in data.sizes.tolist()])
    return data.gather(classes, positions)


def made(examples, labels=NAMES, inputs=INPUTS):
    return ClassDataset.from_arrays(examples, labels, inputs)


def right():
    return made(stored())


class OfTorch(torch.utils.data.Dataset):
    """A data set of torch, of things that are given."""

    def __init__(self, things):
        self.things = list(things)

    def __len__(self):
        return len(self.things)

    def __getitem__(self, number):
        return self.things[number]


class Streamed(torch.utils.data.IterableDataset):
    def __init__(self, things):
        self.things = things

    def __iter__(self):
        return iter(self.things)


def pil(images):
    return [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in images]


def column(images):
    hub = pytest.importorskip("datasets")
    kinds = hub.Features({"image": hub.Image()})
    return hub.Dataset.from_dict({"image": pil(images)}, features=kinds)["image"]


@pytest.mark.parametrize(
    "form",
    [
        pil,
        column,
        OfTorch,
        Streamed,
        list,
        lambda x: OfTorch(pil(x)),
        lambda x: torch.utils.data.Subset(OfTorch(x), range(6)),
        lambda x: torch.utils.data.ConcatDataset([OfTorch(x[:2]), OfTorch(x[2:])]),
        lambda x: torch.utils.data.TensorDataset(x),
        lambda x: (each for each in pil(x)),
    ],
    ids=["pil", "column", "torch", "streamed", "list", "pil of torch", "subset", "concatenated",
         "tensors", "generator"],
)  # fmt: skip
def test_from_arrays_takes_images_as_people_have_them(form):
    found = made(form(stored()))
    assert str(found) == str(right())
    assert torch.equal(everything(found), everything(right()))


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.float() / 255,
        lambda x: (x / 255).double().numpy(),
        lambda x: x.long(),
        lambda x: x.numpy().astype(np.uint16),
        lambda x: x.numpy().astype(">i4"),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.permute(0, 2, 3, 1).float().numpy() / 255,
        lambda x: np.asfortranarray(x.numpy()),
        lambda x: x.flip(0).flip(0).requires_grad_(False),
        lambda x: (x.float() / 255).requires_grad_(),
        lambda x: torch.cat([x, torch.full_like(x[:, :1], 255)], 1),
        lambda x: x.numpy()[::-1][::-1],
    ],
)
def test_images_are_what_they_are_in_arrays_of_any_type_and_order(form):
    assert torch.equal(everything(made(form(stored()))), everything(right()))


def test_images_of_other_sizes_are_scaled_and_grey_ones_become_coloured():
    grey = stored(1)
    coloured = made(grey.expand(-1, 3, -1, -1))
    for form in (grey, grey[:, 0], grey[:, 0, ..., None], grey[:, 0].numpy()):
        assert torch.equal(everything(made(form)), everything(coloured))
    assert made(torch.zeros(6, 3, 20, 30, dtype=torch.uint8)).shape == (3, 8, 8)
    truth = made(np.tile(np.eye(8, dtype=bool), (6, 1, 1)))
    assert set(truth.examples.unique().tolist()) == {0, 255}


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (lambda x: x.float(), "floats between 0 and 1"),
        (lambda x: (x / 255 - 0.5) / 0.25, "floats between 0 and 1"),
        (lambda x: (x.float() / 255).fill_(float("nan")), "floats between 0 and 1"),
        (lambda x: x.long() * 256, "integers must lie between 0 and 255"),
        (lambda x: x.long() - 128, "integers must lie between 0 and 255"),
        (lambda x: (x > 127).byte(), "largest value of the images is 1"),
        (lambda x: x * 1j, "real numbers"),
        (lambda x: x[:, :2], r"an image is \[H, W\]"),
        (lambda x: x[:0], "no examples: give at least one"),
        (lambda x: [], "no examples: give at least one"),
        (lambda x: torch.zeros(6), r"shape \[6\]; give \[N, ...\]"),
        (lambda x: "folder", "single str; give a list"),
        (lambda x: {"train": x}, "dict with the keys 'train'; give one of"),
        (lambda x: torch.utils.data.DataLoader(x), "gives batches; give its data set"),
        (lambda x: 5, "are a int; give an array"),
        (lambda x: [*pil(x)[:5], "no_such.png"], "Example 5 cannot be used.*no_such.png"),
        (lambda x: OfTorch([(each, 0) for each in x]), "pairs.*labels=None"),
        (lambda x: OfTorch([(each, 0, 1) for each in x]), "a tuple of length 3"),
    ],
)
def test_images_that_cannot_be_told_are_refused(form, said):
    with pytest.raises(ValueError, match=said):
        made(form(stored()))


def test_what_was_prepared_is_not_prepared_again():
    for data in (right(), made(torch.ones(6, 400).short() * 9, inputs=AudioInputs(1000, 0.4))):
        prepared = everything(data)
        assert torch.equal(data.inputs.prepare(prepared), prepared)


# -- labels ---------------------------------------------------------------------------------------


def test_a_data_set_of_pairs_brings_its_labels():
    pairs = OfTorch(zip(stored(), NAMES, strict=True))
    assert torch.equal(everything(made(pairs, None)), everything(right()))
    pairs = OfTorch(zip(pil(stored()), [0, 0, 1, 1, 2, 2], strict=True))
    pairs.classes = ["zebra", "ant", "cow"]  # as data sets of torchvision name them
    assert made(pairs, None).class_names == ("ant", "cow", "zebra")
    tensors = torch.utils.data.TensorDataset(stored(), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert made(tensors, None).class_names == ("0", "1", "2")


def test_a_data_set_of_hugging_face_brings_its_columns_and_names():
    hub = pytest.importorskip("datasets")
    kinds = {"image": hub.Image(), "label": hub.ClassLabel(names=["zebra", "ant", "cow"])}
    rows = {"image": pil(stored()), "label": [0, 0, 1, 1, 2, 2]}
    table = hub.Dataset.from_dict(rows, features=hub.Features(kinds))
    for found in (made(table, None), made(table["image"], table["label"]), made(table, NAMES)):
        assert torch.equal(everything(found), everything(right()))
    assert made(table, None).class_names == ("zebra", "ant", "cow")
    with pytest.raises(ValueError, match="DatasetDict with the keys 'train'"):
        made(hub.DatasetDict(train=table), None)
    with pytest.raises(ValueError, match="streamed"):
        made(table.to_iterable_dataset(), None)
    texts = hub.Dataset.from_dict({"text": ["a b", "c d"], "intent": ["x", "y"]})
    inputs = TextInputs.learned(["a b c d"], length=4)
    assert made(texts, None, inputs).class_names == ("x", "y")
    with pytest.raises(ValueError, match="which column holds the examples: text, intent"):
        made(texts, None)


class Colour(enum.StrEnum):
    RED = "a rather long red"
    BLUE = "a rather long blue"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([10, 10, 9, 9, 1, 1]), ("1", "9", "10")),
        (torch.tensor([[2], [2], [1], [1], [0], [0]]), ("0", "1", "2")),
        ([np.int64(2), 2, 1, 1, 0, 0], ("0", "1", "2")),
        ([True, True, False, False, True, True], ("False", "True")),
        ([Colour.RED, Colour.RED, *[Colour.BLUE] * 4], tuple(sorted(Colour))),
        ([b"a", "a", *"bbbb"], ("a", "b")),
        (["one"] * 6, ("one",)),
    ],
)
def test_labels_may_be_words_numbers_or_truth_values(labels, names):
    assert made(stored(), labels).class_names == tuple(str(getattr(n, "value", n)) for n in names)


def test_labels_may_be_columns_of_pandas_and_pyarrow():
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    shifted = pandas.Series(NAMES, index=range(10, 16))
    for labels in (shifted, shifted.astype("category"), arrow.array(NAMES)):
        assert made(stored(), labels).class_names == ("c0", "c1", "c2")
    images = pandas.Series(pil(stored()), index=range(10, 16))
    assert torch.equal(everything(made(images)), everything(right()))
    frame = pandas.DataFrame(stored().flatten(1).numpy()[:, :4])
    assert made(frame, NAMES, FeatureInputs(4)).shape == (4,)
    with pytest.raises(ValueError, match=r"a table .DataFrame.; choose the column"):
        made(pandas.DataFrame({"image": images, "label": list("aabbcc")}))
    with pytest.raises(ValueError, match="Label 2 is missing"):
        made(stored(), pandas.Series(["a", "b", None, "a", "b", "c"]))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (NAMES[:5], "6 examples and 5 labels"),
        (["1", 1, 2, 2, 3, 3], "Some labels are strings such as '1' and some are whole"),
        ([True, 1, 0, 0, 1, 1], "booleans such as True and some are whole numbers"),
        ([None, *NAMES[1:]], "Label 0 is missing"),
        ([float("nan"), 1.0, 1.0, 2.0, 2.0, 2.0], "Label 0 is missing"),
        ([1, 1.0, 2, 2, 3, 3], "use one type for all labels"),
        (["", *NAMES[1:]], "Label 0 is missing"),
        (np.ma.array([0, 0, 0, 1, 1, 1], mask=[0] * 5 + [1]), "Label 5 is missing"),
        ({"a", "b"}, "labels are a set"),
        ([{"a"}, {"a", "b"}, {"b"}] * 2, "is a set; labels are"),
        ([datetime.date(2020, 1, 1)] * 6, "Label 0 is a date"),
        (np.eye(6), r"shape \[6, 6\].*argmax"),
        ([0.25, 0.5, 1, 1, 1, 1], "Label 0 is 0.25, a measured number"),
        ([["a"]] * 6, "is a list; labels are"),
        ("abcdef", "labels are a str"),
        (None, "no labels for the 6 examples"),
    ],
)
def test_what_are_no_labels_is_refused(labels, said):
    with pytest.raises(ValueError, match=said):
        made(stored(), labels)


# -- other kinds ----------------------------------------------------------------------------------


def test_vectors_become_float32_and_must_fit():
    points = np.arange(24).reshape(6, 4)
    for form in (points, points.astype("f8"), points.tolist(), torch.tensor(points).bfloat16()):
        found = made(form, NAMES, FeatureInputs(4)).examples
        assert found.dtype == torch.float32
        assert found.tolist() == points.tolist()
    with pytest.raises(ValueError, match=r"\[6, 2, 2\].*use flatten\(1\)"):
        made(points.reshape(6, 2, 2), NAMES, FeatureInputs(4))
    with pytest.raises(ValueError, match=r"\[6, 4\].*\[N, 5\]"):
        made(points, NAMES, FeatureInputs(5))
    with pytest.raises(ValueError, match="Example 2 holds a number that is NaN"):
        made(np.where(points == 9, np.nan, points), NAMES, FeatureInputs(4))


def test_texts_and_their_subwords():
    texts = ["one two", "three"] * 3
    inputs = TextInputs.learned(texts, length=4)
    data = made(np.array(texts), NAMES, inputs)
    assert torch.equal(data.examples, made(texts, NAMES, inputs).examples)
    assert torch.equal(
        data.examples, made(data.examples.numpy().astype(int), NAMES, inputs).examples
    )
    with pytest.raises(ValueError, match=r"whole numbers \[N, 4\]"):
        made(torch.rand(6, 4), NAMES, inputs)
    with pytest.raises(ValueError, match="must lie between 0 and"):
        made(data.examples + 10**6, NAMES, inputs)
    with pytest.raises(UnreadableError, match=r"Example 1 cannot be used.*empty"):
        made(["a", " ", *texts[:4]], NAMES, inputs)


def test_sounds_in_all_their_forms():
    inputs = AudioInputs(rate=1000, seconds=0.2)
    waves = np.sin(np.arange(400)[None] / (3 + np.arange(6)[:, None])).astype("f4") / 2
    pairs = made([(wave, 2000) for wave in waves], NAMES, inputs)
    dictionaries = [{"array": wave, "sampling_rate": 2000, "path": None} for wave in waves]

    class Decoder:  # as torchcodec has it
        def __init__(self, wave):
            self.wave = torch.tensor(wave)[None]

        def get_all_samples(self):
            return type("Samples", (), {"data": self.wave, "sample_rate": 2000})

    for form in (dictionaries, (waves, 2000), [Decoder(wave) for wave in waves]):
        assert torch.equal(made(form, NAMES, inputs).examples, pairs.examples)
    at_rate = made(waves[:, :200], NAMES, inputs)
    assert torch.equal(made(at_rate.examples, NAMES, inputs).examples, at_rate.examples)
    with pytest.raises(UnreadableError, match="dictionary with the keys array, hertz"):
        made([{"array": wave, "hertz": 1} for wave in waves], NAMES, inputs)


def test_inputs_must_be_an_object_that_reads():
    for given in (ImageInputs, "image", None):
        with pytest.raises(ValueError, match="that turns examples into tensors"):
            made(stored(), NAMES, given)


@pytest.mark.parametrize("other", ["card ", "\u00a0card", "c\u200bard"])
def test_labels_that_look_the_same_are_one_class(other):
    with pytest.warns(UserWarning, match="look the same .* is the class 'card'"):
        assert made(stored(), ["card", other] * 3).class_names == ("card",)


# -- one example each -----------------------------------------------------------------------------


def test_parts_of_a_torch_data_set_have_its_names():
    pairs = OfTorch(zip(pil(stored()), [0, 0, 1, 1, 2, 2], strict=True))
    pairs.classes = ["zebra", "ant", "cow"]
    part = torch.utils.data.Subset(torch.utils.data.Subset(pairs, range(5)), range(3))
    assert made(part, None).class_names == ("ant", "zebra")


def test_dictionaries_of_an_example_and_its_label():
    rows = [{"Image": i, "label": n} for i, n in zip(pil(stored()), NAMES, strict=True)]
    for form in (rows, OfTorch(rows)):
        assert torch.equal(everything(made(form, None)), everything(right()))
    assert torch.equal(everything(made(rows)), everything(right()))
    with pytest.raises(ValueError, match="'x', 'y', and it is not clear which is the example"):
        made([{"x": 1, "y": 2}] * 6)
    with pytest.raises(ValueError, match="not clear which is the label"):
        made([{"image": each} for each in stored()], None)


class Own:
    """Somebody's own inputs, which fail as own code does."""

    modality = "own"

    def __init__(self, decode):
        self.decode = decode

    def prepare(self, stored):
        return stored

    def to_dict(self):
        return {"kind": "own"}


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        (lambda raw: torch.tensor([float(raw["v"])]), "Example 1 .*decode fails on a dict.*'v'"),
        (lambda raw: np.ones(3), "Example 0 .*it gives a ndarray, and a tensor is needed"),
        (lambda raw: Image.open("no_such.png"), "Example 0 .*FileNotFoundError.*no_such"),
        (lambda raw: torch.ones(len(raw)), "decoded examples have different shapes"),
    ],
)
def test_inputs_of_ones_own_that_fail_are_named(decode, said):
    with pytest.raises(ValueError, match=said):
        made([{"v": 1}, {}], ["a", "b"], Own(decode))


def test_a_vector_that_is_none_is_named():
    for last in ([1, 2], ["x", 1, 2], [None, 1, 2]):
        with pytest.raises(UnreadableError, match=r"Example 1 .*vector of 3 numbers was expected"):
            made([[1, 2, 3], last], ["a", "b"], FeatureInputs(3))


# -- class after class ----------------------------------------------------------------------------


def contiguous(examples, names=("c0", "c1", "c2")):
    return ClassDataset.contiguous(examples, [2, 2, 2], names, INPUTS)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.float() / 255,
        lambda x: x.numpy(),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.permute(0, 2, 3, 1).numpy() / 255,
    ],
)
def test_images_class_after_class_are_what_they_are_as_bytes(form):
    assert torch.equal(everything(contiguous(form(stored()))), everything(right()))


def test_what_is_not_class_after_class_is_refused():
    with pytest.raises(ValueError, match="floats between 0 and 1"):
        contiguous(stored().float())
    with pytest.raises(ValueError, match=r"are a list; an array \[N, ...\]"):
        contiguous(pil(stored()))
    for names in ("abc", [0, 1, 2]):
        with pytest.raises(ValueError, match="one string for each class"):
            contiguous(stored(), names)


def test_images_as_floats_are_what_they_are_as_bytes():
    assert torch.equal(everything(made(stored().float() / 255)), everything(right()))


def test_images_with_channels_last_are_refused_or_turned():
    turned = stored().permute(0, 2, 3, 1).contiguous()
    assert torch.equal(everything(made(turned)), everything(right()))
