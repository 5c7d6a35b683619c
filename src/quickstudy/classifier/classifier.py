"""``FewShotClassifier``: a scikit-learn classifier that learns from a handful of examples."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from quickstudy.classifier.explanation import Explanation
from quickstudy.classifier.file import load_model, save_model
from quickstudy.classifier.hub import downloaded, upload
from quickstudy.classifier.model import Model, Settings
from quickstudy.classifier.parts import assembled
from quickstudy.classifier.raw import (
    check_columns,
    inputs_alone,
    inputs_and_labels,
    is_array,
)
from quickstudy.datasets.labels import as_labels, check_same_type
from quickstudy.datasets.spelling import Labels, spelt_as
from quickstudy.deprecated import renamed_arguments
from quickstudy.errors import InputError
from quickstudy.inputs import FeatureInputs, Inputs
from quickstudy.runs.run import Run
from quickstudy.strategies import Strategy
from quickstudy.strategies.strategy import Theta

_LARGEST_SEED = 2**31 - 1

_locks: WeakKeyDictionary[FewShotClassifier, threading.RLock] = WeakKeyDictionary()


def _lock_of(classifier: FewShotClassifier) -> threading.RLock:
    """The lock held while a classifier learns; kept here, as locks cannot be copied or pickled."""
    return _locks.setdefault(classifier, threading.RLock())


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Learns to tell classes apart from a few examples of each: images, texts, sounds or vectors.

        classifier = FewShotClassifier().fit(["where is my card", ...], ["card", ...])
        classifier.predict(["it has not arrived"])

    Inputs X are vectors ``[N, D]`` (an array, a tensor or a table), or a list of N images (paths,
    bytes, PIL images or arrays), texts (strings, or ``Path`` objects of text files) or sounds
    (paths, bytes, or pairs of samples and rate). Labels y are strings, whole numbers or booleans.
    Any number of classes and of examples each will do; a class with one example counts, but cannot
    help to measure what the classifier may be trusted with.

    Labels that look the same (blanks at the ends, characters without width, accents written in
    another way) are one class, spelt as the first of them; a warning names them. Several labels
    per input are what ``sklearn.multiclass.OneVsRestClassifier(FewShotClassifier())`` is for.

    Texts that are empty, or of which the encoder's tokenizer knows no word, are refused or warned
    of by ``fit``. When the classifier is asked about them a warning counts them. Their
    probabilities are the classes' shares of the examples, their set holds all classes, and
    ``predict(keep=...)`` answers None.

    An encoder turns inputs into vectors, and a strategy learns from those. The encoder stays as it
    is. A strategy that is transductive predicts all inputs of one call together, so that what it
    says of one depends on the others.

    Args:
        encoder: a name (a run trained here, a local folder or a model of the Hugging Face hub), a
            module that maps ``[N, *shape]`` to ``[N, D]`` (with an attribute ``inputs`` unless
            arrays are given to it as they are), or None: vectors are used as they are, and other
            inputs get the default encoder of their modality (``quickstudy.classifier.defaults``).
        strategy: a strategy's name ("PrototypicalNetwork"), its class or an object, or a run
            (``quickstudy.load(...)``, or its directory), which is used as it was meta-trained,
            with its own encoder and inputs. By default logistic regression.
        inputs: how raw things become the encoder's inputs; the encoder's own by default.
        calibrate: measure on held-out examples how far to trust the answers, so that
            probabilities mean what they say, and ``predict(keep=...)`` and ``predict_set`` work.
            For that the strategy adapts up to eight times more, to fewer examples.
        cache: keep the vectors of named encoders on the disk, by content.
        device: where to compute, such as "cuda"; by default where the encoder is. An encoder that
            was given as a module is moved there.
        keep_examples: keep the names and small pictures of the examples, for ``explain``.
        class_names: whether the name of a class counts as an example of it, where inputs are texts
            and labels are words (``"card_about_to_expire"``). None for where names turn out to
            tell the examples apart.
        random_state: of whatever is random: the strategy, and which examples are held out. A whole
            number (by default) makes every fit give the same.

    Attributes:
        classes_: the sorted labels, ``[K]``.
        n_features_in_: D, where X are vectors.
        theta_: θ, the parameters of the learner: tensors whose first axis is one task.
        strategy_: the strategy that adapted.
        temperature_: what logits are divided by, so that probabilities are calibrated.
        model_: all of it, as files hold it.

    Notes:
        Several threads may ask one classifier at the same time, and teach it meanwhile: each call
        is answered by what was learned when it began. An encoder or strategy that is given as a
        module keeps its own mode, as the classifier computes with a copy in evaluation mode that
        shares the weights. After training those further, fit again. A module whose functions refer
        to itself cannot be copied in this way; it is put into evaluation mode for each call.

        Processes that are started by "spawn" or by joblib's "loky" get a pickled classifier and
        work as usual. A forked process (``multiprocessing``'s "fork") lacks torch's threads, and
        waiting for those would hang; there the classifier sets torch to one thread when it is first
        asked, with a warning. CUDA does not work after a fork.
    """

    def __init__(
        self,
        encoder: str | Path | nn.Module | None = None,
        strategy: str | Path | type[Strategy] | Strategy | Run | None = None,
        inputs: Inputs | None = None,
        calibrate: bool = True,
        cache: bool = True,
        device: str | torch.device | None = None,
        keep_examples: bool = True,
        class_names: bool | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.encoder = encoder
        self.strategy = strategy
        self.inputs = inputs
        self.calibrate = calibrate
        self.cache = cache
        self.device = device
        self.keep_examples = keep_examples
        self.class_names = class_names
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learns from N inputs X and their N labels y.

        Args:
            X: N inputs, or a data set of torch or of the Hugging Face library ``datasets``.
            y: N labels; None if X is a data set (or a list) of pairs of an input and its label, or
                one with a column of labels.

        Raises:
            ValueError: in a plain sentence, when an input cannot be used, the numbers of inputs
                and labels differ, there is one class only, or the strategy is made for another
                number of classes.
        """
        with _lock_of(self):
            # Predictions made meanwhile, or after a failure, use the complete old state.
            learned = copy.copy(self)
            X, y = inputs_and_labels(X, y, self._modality(reset=True))
            X, y = learned._checked(X, reset=True), as_labels(y)
            seed = check_random_state(self.random_state).randint(_LARGEST_SEED)
            parts = assembled(self.encoder, self.strategy, self.inputs, X, self.device, self.cache)
            settings = Settings(self.calibrate, self.keep_examples, int(seed), self.class_names)
            learned._learned(Model.learned(parts, X, y, settings))
            self.__dict__ = learned.__dict__
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None) -> Self:
        """Learns from further examples, of known classes or new ones: as :meth:`fit` on all.

        Nothing is trained: the strategy adapts again. The first call is :meth:`fit`, and its
        examples must be of two classes at least.

        Args:
            X: N inputs, as :meth:`fit` takes them.
            y: N labels, as :meth:`fit` takes them.
            classes: accepted for scikit-learn's sake: labels outside them are refused, and a class
                begins to exist with its first example.
        """
        X, y = inputs_and_labels(X, y, self._modality())
        y = as_labels(y)
        if classes is not None:
            named = as_labels(list(classes))
            check_same_type(named, y)
            strange = set(spelt_as(y, named).tolist()) - set(named.tolist())
            if strange:
                raise InputError(
                    f"The label {min(strange)!r} is not among the classes given as `classes`."
                )
        with _lock_of(self):  # or what another thread adds at the same time is lost
            if not hasattr(self, "model_"):
                return self.fit(X, y)
            model, X = self._asked(X)
            return self._learned(model.extended(X, y))

    @renamed_arguments(reject="keep")
    def predict(self, X: Any, keep: bool | float | None = None) -> Labels:
        """The labels ``[Q]`` of inputs X.

        Args:
            X: Q inputs.
            keep: the share of inputs of known classes to keep, between 0 and 1; True for 0.95. The
                label of inputs that seem to belong to no known class is then None, in an array of
                objects. The smaller the share, the more unknown inputs are rejected; with very few
                examples per class, 0.8 is a good choice. None or False: every input gets a label.
        """
        model, X = self._asked(X)
        return model.predict(X, keep)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class, ``[Q, K]`` in the order of ``classes_``."""
        model, X = self._asked(X)
        return model.answers.proba(model.logits(model.prepared(X)))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The accuracy on inputs X with labels y, which are given as for :meth:`fit`."""
        from sklearn.metrics import accuracy_score

        check_is_fitted(self)
        X, y = inputs_and_labels(X, y, self._modality())
        model, X = self._asked(X)
        labels = as_labels(y)
        check_same_type(model.classes, labels)
        answers = model.predict(X)
        labels = spelt_as(as_labels(labels, len(answers)), model.classes)
        share: float = accuracy_score(labels, answers, sample_weight=sample_weight)
        return share

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Calibrated logits ``[Q, K]``; of two classes their difference ``[Q]``, the second's."""
        model, X = self._asked(X)
        logits = model.answers.calibrated(model.logits(model.prepared(X)))
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_set(self, X: Any, coverage: float = 0.9) -> list[Labels]:
        """For each input the labels it may have, the most probable first.

        The sets hold the true label of ``coverage`` of the inputs of known classes (conformal
        prediction). They are large for inputs that are hard, and some are empty where the
        classifier is right more often than was asked.

        Raises:
            ValueError: when the coverage is not between 0 and 1, no class has two examples, or
                the classifier was fitted with ``calibrate=False``.
        """
        model, X = self._asked(X)
        return model.predict_set(X, coverage)

    def suggest(self, X: Any, n: int = 1) -> NDArray[np.int64]:
        """Which of the unlabelled inputs X to label next: n row numbers, the most helpful first."""
        model, X = self._asked(X)
        if not isinstance(n, int | np.integer):
            raise InputError(f"{n!r} suggestions were asked for; give a whole number.")
        return model.suggest(X, int(n))

    def explain(self, x: Any) -> Explanation:
        """Which examples spoke for and against the answer to one input.

        Logistic regression tells each example's exact share of the logit; other strategies the
        similarity of features. ``Explanation.meaning`` says which.

        Args:
            x: one input, such as a path or a vector ``[D]``.
        """
        check_is_fitted(self)
        row = self._reads_vectors() and is_array(x) and np.ndim(x) < 3
        single = np.asarray(x).reshape(1, -1) if row else [x]
        model, single = self._asked(single)
        return model.explain(single)

    def save(self, path: str | os.PathLike[str], embed_encoder: bool = False) -> None:
        """Writes the classifier to one file, in one piece; it holds no code and no pickle.

        An encoder that was loaded by name is written by its name, any other with its weights.

        Args:
            path: of the file.
            embed_encoder: also write the folder of a pretrained encoder (its settings, tokenizer
                and weights), so that the file is all that another machine needs. What was loaded
                from such a file keeps its encoder anyway.

        Raises:
            FileNotFoundError: when the folder that is to be embedded is not there any more.
            ValueError: when a module is of a class that cannot be described, or the encoder
                cannot be embedded.
        """
        check_is_fitted(self)
        save_model(self.model_, Path(path), embed_encoder)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        trust: Sequence[str] = (),
        device: str | torch.device | None = None,
        revision: str | None = None,
    ) -> Self:
        """Reads a classifier from its file, or from a repository of the Hugging Face hub.

        A ``random_state`` that was no whole number is 0 afterwards.

        Args:
            path: a ``.qs`` file, or ``"owner/name"`` of the hub.
            trust: import paths of classes outside this package that the file may use, such as
                ``["my_package.MyEncoder"]``. Importing runs their code.
            device: where to compute; the CPU by default.
            revision: of the repository.

        Raises:
            FileNotFoundError: when there is neither.
            ValueError: when the file is damaged, of another version, or names other classes.
        """
        model = load_model(downloaded(path, revision), trust, device)
        reader = model.parts.reader
        classifier = cls(
            encoder=reader.name or reader.encoder,
            strategy=model.parts.strategy,
            inputs=reader.inputs,
            calibrate=model.settings.calibrate,
            cache=reader.cache is not None,
            device=device,
            keep_examples=model.settings.keep_examples,
            class_names=model.settings.class_names,
            random_state=int(model.extra.get("random_state", 0)),
        )
        if "columns" in model.extra:
            classifier.n_features_in_ = int(model.extra["columns"])
        if "column_names" in model.extra:
            classifier.feature_names_in_ = np.array(model.extra["column_names"], dtype=object)
        return classifier._learned(model)

    def push_to_hub(
        self, repo_id: str, private: bool | None = None, token: str | None = None
    ) -> str:
        """Uploads the classifier and a model card to the Hugging Face hub; returns the address.

        What is uploaded holds no path of this machine: a pretrained encoder of a local folder is
        embedded, which a warning says, and examples that have absolute paths keep the names of
        their files.

        Args:
            repo_id: ``"owner/name"``; made where it does not exist.
            private: whether a new repository is private.
            token: of the hub; by default the one that is logged in.
        """
        check_is_fitted(self)
        return upload(self.model_, repo_id, private, token)

    @property
    def classes_(self) -> Labels:
        """The sorted labels, ``[K]``."""
        return self.model_.classes

    @property
    def theta_(self) -> Theta:
        """θ."""
        return self.model_.learner.theta

    @property
    def strategy_(self) -> Strategy:
        """The strategy that adapted."""
        return self.model_.learner.strategy

    @property
    def temperature_(self) -> float:
        """What logits are divided by."""
        return self.model_.answers.temperature

    def _learned(self, model: Model) -> Self:
        if hasattr(self, "n_features_in_"):
            model.extra["columns"] = int(self.n_features_in_)
        if hasattr(self, "feature_names_in_"):
            model.extra["column_names"] = self.feature_names_in_.tolist()
        if isinstance(self.random_state, int | np.integer):
            model.extra["random_state"] = int(self.random_state)
        self.model_ = model
        return self

    def _asked(self, X: Any) -> tuple[Model, Any]:
        """The current model and X checked for it; a fit that runs meanwhile changes neither."""
        check_is_fitted(self)
        now = copy.copy(self)
        return now.model_, now._checked(inputs_alone(X, now._modality()), reset=False)

    def _modality(self, reset: bool = False) -> str | None:
        """The modality of the inputs, as in ``Inputs.modality``; None while it is unknown."""
        if hasattr(self, "model_") and not reset:
            inputs = self.model_.parts.reader.inputs
            return FeatureInputs.modality if inputs is None else inputs.modality
        own = self.inputs or getattr(self.encoder, "inputs", None)
        return getattr(own, "modality", None)

    def _reads_vectors(self) -> bool:
        inputs = self.model_.parts.reader.inputs
        return inputs is None or inputs.modality == FeatureInputs.modality

    def _checked(self, X: Any, reset: bool) -> Any:
        """X; tables of numbers as scikit-learn checks them."""
        if isinstance(X, Iterator):
            X = list(X)
        if not reset:
            check_is_fitted(self)
            if not self._reads_vectors():
                return X  # a list of sounds of one length is no table
        if isinstance(X, list) and X and isinstance(X[0], Tensor) and is_array(X):
            X = torch.stack(X)
        if isinstance(X, Tensor) and X.ndim == 2:
            X = X.detach().cpu()
            X = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
        array = is_array(X) and not isinstance(X, Tensor)
        if array and (hasattr(X, "tocsr") or np.asarray(X).ndim < 3):
            check_columns(X)
            return validate_data(self, X, reset=reset)
        if reset:
            for name in ("n_features_in_", "feature_names_in_"):
                if hasattr(self, name):
                    delattr(self, name)
        return X
