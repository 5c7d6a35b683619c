"""What type checkers and editors know of the public names, although these are imported lazily."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

import quickstudy
from quickstudy.training.settings import TrainerSettings

REVEALED = """
import quickstudy as qs
from quickstudy.strategies import PrototypicalNetwork
from quickstudy.encoders import Conv4
from quickstudy.episodes import Examples, Mixture
from quickstudy.evaluation import Report
from quickstudy.index import PrototypeIndex
from quickstudy.inputs import ImageInputs

data = qs.load_dataset("glyphs")
encoder = Conv4((1, 28, 28))
strategy = PrototypicalNetwork(encoder)
trainer = qs.Trainer(steps=10)
classifier = qs.FewShotClassifier(encoder).fit(["a.png"], ["a"])
sampler = qs.EpisodeSampler(data, 5, 1)
reveal_type(qs.fit)
reveal_type(qs.evaluate)
reveal_type(qs.load)
reveal_type(qs.load_dataset)
reveal_type(qs.load_encoder)
reveal_type(qs.FewShotClassifier)
reveal_type(qs.ClassDataset)
reveal_type(qs.Episode)
reveal_type(qs.EpisodeSampler)
reveal_type(qs.Strategy)
reveal_type(qs.EmbeddingStrategy)
reveal_type(qs.Trainer)
reveal_type(qs.UserError)
reveal_type(qs.__version__)
reveal_type(data)
reveal_type(data[0])
reveal_type(data[:3])
reveal_type(data.split())
reveal_type(encoder)
reveal_type(strategy)
reveal_type(trainer)
reveal_type(trainer.fit(strategy, data))
reveal_type(qs.fit(strategy, data, steps=3))
reveal_type(qs.evaluate(strategy, data))
reveal_type(qs.evaluate(strategy, data).accuracy.mean)
reveal_type(qs.load("run"))
reveal_type(qs.load("run").strategy)
reveal_type(qs.load_encoder("folder"))
reveal_type(sampler)
reveal_type(sampler.episode(0))
reveal_type(sampler.episode(0).support.inputs)
reveal_type(classifier)
reveal_type(Examples)
reveal_type(Mixture)
reveal_type(Report)
reveal_type(PrototypeIndex)
reveal_type(ImageInputs)
reveal_type(qs.datasets.ClassDataset)
reveal_type(qs.encoders.Conv4)
reveal_type(qs.episodes.Mixture)
reveal_type(qs.evaluation.Report)
reveal_type(qs.index.PrototypeIndex)
reveal_type(qs.inputs.ImageInputs)
reveal_type(qs.strategies.MAML)
reveal_type(qs.training.Callback)
"""

SETUP = """
import quickstudy as qs
from quickstudy.strategies import PrototypicalNetwork
from quickstudy.encoders import Conv4
data = qs.load_dataset("glyphs")
strategy = PrototypicalNetwork(Conv4((1, 28, 28)))
"""

MISUSES = (
    'qs.fit(3, "x", nonsense=1)',
    "qs.fit(strategy, data, nonsense=1)",
    "qs.fit(strategy, data, stpes=3)",
    'qs.fit(strategy, data, steps="many")',
    "qs.fit(strategy, data, optimizer=3)",
    'qs.fit(strategy, data, schedule="zigzag")',
    'qs.fit(strategy, data, data, "run")',
    "qs.fit(strategy)",
    "qs.fit(PrototypicalNetwork, data)",
    "qs.Trainer(5)",
    "qs.Trainer(nonsense=1)",
    'qs.Trainer(learning_rate="fast")',
    'qs.Trainer().fit(strategy, data, None, "run")',
    "qs.Trainer(callbacks=[print])",
    'qs.evaluate(strategy, "glyphs")',
    "qs.evaluate(strategy, data, 5)",
    "qs.evaluate(strategy, data, shot=1)",
    "qs.load(3)",
    "qs.load_dataset(3)",
    'qs.load_dataset("glyphs", nonsense=1)',
    'qs.EpisodeSampler(data, "five", 1)',
    'data["first"]',
    "data.classes()",
    "qs.Episode(1, 2, 3)",
    "qs.nonsense",
)


ROOT = Path(quickstudy.__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The lines of mypy about both texts, with the project's own settings and cache."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "revealed.py").write_text(REVEALED)
    (folder / "misused.py").write_text(SETUP + "\n".join(MISUSES))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", folder / "revealed.py", folder / "misused.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"MYPYPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout.splitlines()


def test_every_public_name_has_a_type(found):
    lines = [line for line in found if "revealed.py" in line]
    assert not [line for line in lines if ": error:" in line]
    revealed = [line for line in lines if "Revealed type is" in line]
    assert len(revealed) == REVEALED.count("reveal_type(")
    assert not [line for line in revealed if 'is "Any"' in line or '-> Any"' in line]
    assert not [name for name in quickstudy.__all__ if f"qs.{name}" not in REVEALED]


def test_misuses_are_errors(found):
    first = SETUP.count("\n") + 1
    wrong = {
        int(line.split(".py:")[1].split(":")[0])
        for line in found
        if "misused.py" in line and ": error:" in line
    }
    missed = [text for number, text in enumerate(MISUSES, first) if number not in wrong]
    assert not missed
    assert min(wrong) >= first


def test_the_settings_of_fit_are_those_of_the_trainer():
    fields = {each.name: each.type for each in dataclasses.fields(quickstudy.Trainer)}
    hints = {name: hint.__forward_arg__ for name, hint in TrainerSettings.__annotations__.items()}
    assert hints == fields


# -- former names ------------------------------------------------------------------------------

ROOMS = ("strategies", "encoders", "inputs", "episodes", "index", "evaluation")


@pytest.mark.parametrize("room", ROOMS)
def test_names_that_were_once_at_the_top_still_are(room):
    module = getattr(__import__(f"quickstudy.{room}"), room)
    for name in set(module.__all__) - set(quickstudy.__all__):
        with pytest.warns(DeprecationWarning, match=f"quickstudy.{room}.{name}.*version 1.0"):
            found = getattr(quickstudy, name)
        assert found is getattr(module, name)


def test_rooms_are_attributes_of_the_package():
    code = "import quickstudy as qs; print(qs.strategies.MAML, qs.training.Callback)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MAML" in done.stdout, done.stderr


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        quickstudy.nonsense  # noqa: B018
