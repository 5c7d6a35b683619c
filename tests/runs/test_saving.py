"""What is saved is what was trained: it loads as it is, or is refused before the first step."""

import copy
import warnings
from functools import partial

import pytest
import torch

import quickstudy as qs
from quickstudy.datasets import ClassDataset
from quickstudy.episodes import Episode, Examples
from quickstudy.inputs import FeatureInputs, ImageInputs
from quickstudy.runs import Checkpoint

from .. import builders
from .. import own_encoders as own
from ..builders import vectors

TRUST = [f"{own.__name__}.*"]


fit = partial(builders.fit, tasks=2, learning_rate=0.01)


def answers(strategy, dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 10, 16, generator=draw).to(dtype)
    examples = Examples(inputs, torch.arange(5).repeat(2).expand(2, -1))
    return strategy.eval()(Episode(examples, examples, 5)).detach()


def refused(strategy, out, name, data=None):
    """What ``fit`` said, which left everything as it was."""
    before = copy.deepcopy(strategy.encoder.state_dict())
    with pytest.raises(ValueError, match=name) as caught:
        fit(strategy, data or vectors(), out=out)
    after = strategy.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not out.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: own.WithOptions(scale=-3.0), "WithOptions .* other outputs"),
        (lambda: own.WithSizes(20, 12), "WithSizes .* of shape"),
        (own.WithDropout, "WithDropout .* cannot be created"),
        (own.replaced, "TwoLayers .* ReLU as 'encoder.net.1' instead of a Tanh"),
        (own.sequential, "Sequential .* has no 'encoder.0.bias'"),
    ],
)
def test_a_run_is_loaded_with_the_encoder_it_was_trained_with(make, name, tmp_path):
    refused(qs.strategies.PrototypicalNetwork(make()), tmp_path / "run", name)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (own.with_weight_norm, "TwoLayers .* has no 'encoder.net.0.parametrizations"),
        (own.tied, "TwoLayers .* does not share"),
        (own.shared, "Summing .* does not share"),
        (own.other_dropout, r"Normalising .* Dropout\(p=0\.2.*\) instead of \(p=0\.7"),
        (own.hooked, "TwoLayers .* other outputs"),
        (own.patched, "TwoLayers .* other outputs"),
        (own.gated, "Gated .* other outputs"),
        (own.shifted, r"Shifted .*'encoder\.mean', a buffer that is not saved"),
        (own.Projecting, "Projecting .* other outputs"),
        (own.Doubling, "Doubling .* of shape"),
        (own.local, "Local is defined inside"),
    ],
)
def test_what_a_description_does_not_hold_is_refused(make, name, tmp_path):
    torch.manual_seed(0)
    encoder = make()
    torch.manual_seed(0)  # what is drawn again must not be the same by chance
    refused(qs.strategies.PrototypicalNetwork(encoder), tmp_path / "run", name)


@pytest.mark.parametrize("strategy", [qs.strategies.PrototypicalNetwork, qs.strategies.MAML])
@pytest.mark.parametrize(("make", "name"), [(own.RunningMean, "mean"), (own.Warming, "passes")])
def test_what_is_learned_in_plain_attributes_is_refused(make, name, strategy, tmp_path):
    said = refused(strategy(make()), tmp_path / "run", f"attribute '{name}' .*register_buffer")
    assert said.startswith(make.__name__)


def test_plain_attributes_that_do_not_matter_are_warned_of_or_nothing(tmp_path):
    with pytest.warns(UserWarning, match="Counting changes its attribute 'passes' each time"):
        fit(qs.strategies.PrototypicalNetwork(own.Counting()), vectors(), out=tmp_path / "counts")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(qs.strategies.PrototypicalNetwork(own.Caching()), vectors(), out=tmp_path / "caches")


@pytest.mark.parametrize("out", [None, "run"])
@pytest.mark.parametrize(
    ("make", "said"),
    [(own.Growing, "'encoder.last.bias'"), (own.WithoutGradients, "WithoutGradients .*no_grad")],
)
def test_parameters_that_would_not_learn_are_refused(make, said, out, tmp_path):
    with pytest.raises(ValueError, match=said):
        fit(qs.strategies.PrototypicalNetwork(make()), vectors(), out=out and tmp_path / out)


def test_layers_that_freeze_when_training_begins_stay_as_they_are(tmp_path):
    strategy = qs.strategies.PrototypicalNetwork(own.Freezing())
    before = copy.deepcopy(strategy.state_dict())
    run = fit(strategy, vectors(), out=tmp_path / "run")
    after = run.strategy.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"encoder.net.2.weight", "encoder.net.2.bias"}
    loaded = qs.load(tmp_path / "run", trust=TRUST)
    assert torch.equal(answers(run.strategy), answers(loaded.strategy))


@pytest.mark.parametrize("make", [own.OfComplexNumbers, own.bfloat16])
def test_parameters_of_other_types_are_learned_and_loaded(make, tmp_path):
    strategy = qs.strategies.PrototypicalNetwork(make())
    before = copy.deepcopy(strategy.state_dict())
    run = fit(strategy, vectors(), out=tmp_path / "run", learning_rate=0.1)
    assert not any(torch.equal(before[n], each) for n, each in run.strategy.state_dict().items())
    loaded = qs.load(tmp_path / "run", trust=TRUST)
    assert torch.equal(answers(run.strategy), answers(loaded.strategy))


@pytest.mark.parametrize("strategy", [qs.strategies.PrototypicalNetwork, qs.strategies.MAML])
@pytest.mark.parametrize(
    "make",
    [
        lambda: own.KeepingAll(20, 12, scale=0.5, shift=0.3),
        lambda: own.KeepingAll(20),
        lambda: own.OfParts([own.TwoLayers(), own.TwoLayers(8)]),
        own.frozen,
    ],
)
def test_what_a_description_holds_is_loaded_to_the_bit(make, strategy, tmp_path):
    torch.manual_seed(0)
    run = fit(strategy(make()), vectors(), out=tmp_path / "run")
    loaded = qs.load(tmp_path / "run", trust=TRUST)
    assert torch.equal(answers(run.strategy), answers(loaded.strategy))
    learned = [
        [n for n, p in each.strategy.named_parameters() if p.requires_grad]
        for each in (run, loaded)
    ]
    assert learned[0] == learned[1]


def test_layers_that_were_frozen_are_frozen_after_load(tmp_path):
    torch.manual_seed(0)
    strategy = qs.strategies.MAML(own.frozen(), inner_steps=3, inner_learning_rate=0.2)
    run = fit(strategy, vectors(), out=tmp_path / "run")
    loaded = qs.load(tmp_path / "run", trust=TRUST)
    assert not loaded.strategy.encoder.net[0].weight.requires_grad
    assert torch.equal(answers(run.strategy), answers(loaded.strategy))


def test_the_first_parameter_of_init_may_have_any_name(tmp_path):
    run = fit(qs.strategies.PrototypicalNetwork(own.OddlyNamed()), vectors(), out=tmp_path / "run")
    loaded = qs.load(tmp_path / "run", trust=TRUST)
    assert torch.equal(answers(run.strategy), answers(loaded.strategy))


def test_lazy_layers_and_float64_are_loaded(tmp_path):
    for name, make, dtype in (("lazy", own.Lazy, torch.float32), ("64", own.double, torch.float64)):
        data, encoder = vectors(dtype=dtype), make()
        encoder(data.examples[:2])  # lazy layers learn their sizes
        run = fit(qs.strategies.PrototypicalNetwork(encoder), data, out=tmp_path / name)
        loaded = qs.load(tmp_path / name, trust=TRUST)
        assert torch.equal(answers(run.strategy, dtype), answers(loaded.strategy, dtype))


def test_looking_changes_nothing(tmp_path):
    """The trained bits are those of a run that is not saved, and nobody's random numbers move."""
    found = []
    for out in (None, tmp_path / "run"):
        torch.manual_seed(0)
        strategy = qs.strategies.PrototypicalNetwork(
            own.OfParts([own.TwoLayers(), own.Normalising()])
        )
        before = torch.get_rng_state()
        found.append(fit(strategy, vectors(), out=out).strategy.state_dict())
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


class SquareRoots:
    """Inputs of somebody's own."""

    modality = "roots"

    def decode(self, raw):
        return torch.as_tensor(raw, dtype=torch.float32)

    def prepare(self, stored):
        return stored.abs().sqrt()

    def to_dict(self):
        return {"kind": self.modality}


class OwnFeatures(FeatureInputs):
    """Says that it is FeatureInputs, and is not."""

    def prepare(self, stored):
        return stored.abs().sqrt()


@pytest.mark.parametrize("inputs", [SquareRoots(), OwnFeatures(16)])
def test_inputs_that_cannot_be_loaded_are_refused_before_the_first_step(inputs, tmp_path):
    data = vectors()
    data = ClassDataset.contiguous(data.examples, data.sizes, data.class_names, inputs)
    strategy = qs.strategies.PrototypicalNetwork(own.TwoLayers())
    said = refused(strategy, tmp_path / "run", f"inputs are a {type(inputs).__name__}", data)
    assert "Use inputs of quickstudy" in said
    fit(strategy, data)  # without a file there is nothing to load


def test_inputs_of_the_package_are_made_again():
    from quickstudy.inputs import described_inputs, inputs_from_dict

    inputs = ImageInputs(size=8, channels=1, mean=(0.5,), std=(0.25,))
    assert inputs_from_dict(described_inputs(inputs)) == inputs


def test_a_class_of_the_running_script_is_warned_of(tmp_path, monkeypatch):
    import __main__

    class Here(own.TwoLayers):
        pass

    Here.__module__, Here.__qualname__ = "__main__", "Here"
    monkeypatch.setattr(__main__, "Here", Here, raising=False)
    with pytest.warns(UserWarning, match="Here is defined in the script that is running"):
        fit(qs.strategies.PrototypicalNetwork(Here()), vectors(), out=tmp_path / "run")
    monkeypatch.delattr(__main__, "Here")
    with pytest.raises(ValueError, match="only that script can load it"):
        qs.load(tmp_path / "run", trust=["__main__.Here"])


def test_somebody_elses_class_is_made_once_when_it_is_loaded(tmp_path, monkeypatch):
    fit(qs.strategies.PrototypicalNetwork(own.TwoLayers()), vectors(), out=tmp_path / "run")
    made = []
    init = own.TwoLayers.__init__
    monkeypatch.setattr(
        own.TwoLayers, "__init__", lambda self, hidden: (made.append(hidden), init(self, hidden))[1]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qs.load(tmp_path / "run", trust=TRUST)
    assert made == [32]


@pytest.mark.parametrize("frozen", [["nothing.here"], 3, "encoder", [3]])
def test_frozen_names_that_make_no_sense_are_refused(frozen, tmp_path):
    fit(qs.strategies.PrototypicalNetwork(own.TwoLayers()), vectors(), out=tmp_path / "run")
    saved = Checkpoint.load(tmp_path / "run" / "checkpoints" / "last.safetensors")
    saved.frozen = frozen
    saved.save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="some that PrototypicalNetwork does not have"):
        qs.load(tmp_path / "other.safetensors", trust=TRUST)
