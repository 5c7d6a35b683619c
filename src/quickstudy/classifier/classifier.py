"""``FewShotClassifier``: a scikit-learn classifier that learns from a handful of examples."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from quickstudy.classifier.changes import chosen, relabelled, removed
from quickstudy.classifier.explanation import Explanation
from quickstudy.classifier.model import Model, Settings
from quickstudy.classifier.parts import assembled
from quickstudy.classifier.raw import (
    check_columns,
    inputs_alone,
    inputs_and_labels,
    is_array,
)
from quickstudy.classifier.stored import StoredEstimator
from quickstudy.datasets.labels import as_labels, check_same_type
from quickstudy.datasets.spelling import Labels, spelt_as
from quickstudy.deprecated import once_positional, renamed_arguments
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


class FewShotClassifier(ClassifierMixin, StoredEstimator):  # type: ignore[misc]
    """Learns to tell classes apart from a few examples of each: images, texts, sounds or vectors.

    >>> X = [[0.0, 0.1], [0.2, 0.0], [5.0, 5.1], [5.2, 4.9]]
    >>> classifier = FewShotClassifier().fit(X, ["near", "near", "far", "far"])
    >>> classifier.predict([[0.1, 0.2], [4.8, 5.0]]).tolist()
    ['near', 'far']

    Inputs X are vectors ``[N, D]`` (an array, a tensor or a table), or a list of N images (paths,
    bytes, PIL images or arrays), texts (strings, or ``Path`` objects of text files) or sounds
    (paths, bytes, or pairs of samples and sampling rate). Labels y are strings, whole numbers or
    booleans. There can be any number of classes and of examples per class; a class with a single
    example is learned, but does not contribute to the calibration.

    Labels that look the same (white space at the ends, characters without width, accents encoded
    differently) are one class, spelt like the first of them; a warning names them. For several
    labels per input use ``sklearn.multiclass.OneVsRestClassifier(FewShotClassifier())``.

    ``fit`` refuses empty texts and warns of texts without a single word that the encoder's
    tokenizer knows. Asked about such texts, the classifier warns and counts them: their
    probabilities are the classes' shares of the examples, their prediction sets hold all classes,
    and ``predict(keep=...)`` answers None.

    An encoder turns inputs into vectors, and a strategy learns from these. The encoder does not
    change. A transductive strategy predicts all inputs of one call together, so that each answer
    depends on the other inputs.

    Args:
        encoder: a name (a run trained here, a local folder or a model of the Hugging Face hub); a
            module that maps ``[N, *shape]`` to ``[N, D]`` (with an attribute ``inputs`` unless it
            reads arrays as they are); or None, which uses vectors as they are and the default
            encoder of their modality for other inputs (``quickstudy.inputs.modalities``).
        strategy: the name of a strategy ("PrototypicalNetwork"), its class or an object, or a run
            (``quickstudy.load(...)`` or its directory), which is used as it was meta-trained, with
            its own encoder and inputs. Logistic regression by default.
        inputs: how raw inputs become what the encoder reads; the encoder's own by default.
        calibrate: measure on held-out examples how far the answers can be trusted. This calibrates
            the probabilities and makes ``predict(keep=...)`` and ``predict_set`` possible; the
            strategy adapts up to eight more times, each time to fewer examples.
        cache: cache the vectors of named encoders on disk.
        device: where to compute, such as "cuda"; by default where the encoder is. An encoder given
            as a module is moved there.
        keep_examples: keep the names and small pictures of the examples, for ``explain``.
        class_names: use the name of each class as an extra example (only if inputs are texts and
            labels are words, such as "card_about_to_expire"); None: only if that helps.
        random_state: random seed of the strategy and of the held-out folds. With a whole number,
            the default, every fit gives the same result.

    Attributes:
        classes_: the sorted labels, ``[K]``.
        n_features_in_: D, if X are vectors.
        feature_names_in_: the names of the D columns, if X is a table that names them.
        theta_: θ, the parameters of the learner: tensors whose first axis is one task.
        strategy_: the strategy that adapted.
        temperature_: the number that logits are divided by, so that probabilities are calibrated.
        model_: the fitted model, which files store.

    Notes:
        Several threads can use one classifier at the same time, even while it learns: each call is
        answered by what had been learned when it began. An encoder or strategy given as a module
        keeps its mode, because the classifier computes with a copy in evaluation mode that shares
        the weights; fit again after training it further. A module whose functions refer to the
        module itself cannot be copied and is put into evaluation mode for each call instead.

        Processes started by "spawn" or by joblib's "loky" get a pickled classifier and work as
        usual. A forked process (``multiprocessing``'s "fork") lacks torch's threads, and waiting
        for them would hang; there the classifier sets torch to one thread at its first answer, with
        a warning. CUDA does not work after a fork.
    """

    @once_positional(
        *("strategy", "inputs", "calibrate", "cache", "device"),
        *("keep_examples", "class_names", "random_state"),
    )
    def __init__(
        self,
        encoder: str | Path | nn.Module | None = None,
        *,
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
                a data set with a column of labels.

        Raises:
            ValueError: if an input cannot be used, the numbers of inputs and labels differ, there
                is only one class, or the strategy was made for another number of classes.
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
        """Learns from further examples, of known classes or new ones, like :meth:`fit` on all.

        Nothing is trained: the strategy adapts again. The first call is the same as :meth:`fit`
        and needs examples of at least two classes.

        >>> X, y = [[0.0, 0.0], [5.0, 5.0]], ["near", "far"]
        >>> classifier = FewShotClassifier().fit(X, y).partial_fit([[-5.0, 5.0]], ["left"])
        >>> classifier.predict([[-4.0, 5.0]]).tolist()
        ['left']

        Args:
            X: N inputs, as in :meth:`fit`.
            y: N labels, as in :meth:`fit`.
            classes: labels outside these are refused. Optional, as a class begins to exist with
                its first example; part of scikit-learn's interface.
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
        with _lock_of(self):  # or examples that another thread adds at the same time are lost
            if not hasattr(self, "model_"):
                return self.fit(X, y)
            model, X = self._asked(X)
            return self._learned(model.extended(X, y))

    def remove(self, *, label: Any = None, examples: Sequence[int] | None = None) -> Self:
        """Forgets a class or single examples: as :meth:`fit` on the others.

        Args:
            label: label of the class to remove.
            examples: numbers of the examples to remove, from 0 in the order they were given.

        Raises:
            InputError: when there is none such, or only one class would be left.
        """
        check_is_fitted(self)
        with _lock_of(self):
            return self._learned(removed(self.model_, chosen(self.model_, label, examples)))

    def relabel(
        self, new: Any, *, label: Any = None, examples: Sequence[int] | None = None
    ) -> Self:
        """Gives a class, or single examples, another label: as :meth:`fit` with these labels.

        Args:
            new: the new label; the label of another class joins the two classes.
            label: label of the class to rename.
            examples: numbers of the examples to relabel, as for :meth:`remove`.
        """
        check_is_fitted(self)
        with _lock_of(self):
            some = chosen(self.model_, label, examples)
            return self._learned(relabelled(self.model_, some, new))

    @renamed_arguments(reject="keep")
    def predict(self, X: Any, keep: bool | float | None = None) -> Labels:
        """Predicts the labels ``[Q]`` of inputs X.

        >>> X = [[0.0, 0.1], [0.2, 0.0], [5.0, 5.1], [5.2, 4.9]]
        >>> classifier = FewShotClassifier().fit(X, ["near", "near", "far", "far"])
        >>> classifier.predict([[0.1, 0.2], [40.0, -40.0]], keep=0.8).tolist()
        ['near', None]

        Args:
            X: Q inputs.
            keep: the share of inputs of known classes to keep, between 0 and 1; True for 0.95.
                Inputs that seem to belong to no known class get None, in an array of objects. The
                smaller the share, the more unknown inputs are rejected; with very few examples per
                class, 0.8 is a good choice. With None or False every input gets a label.

        Raises:
            ValueError: if the share is not between 0 and 1, no class has two examples, or the
                classifier was fitted with ``calibrate=False``.
        """
        model, X = self._asked(X)
        return model.predict(X, keep)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predicts the probability of each class, ``[Q, K]``, in the order of ``classes_``.

        >>> classifier = FewShotClassifier().fit([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
        >>> classifier.predict_proba([[2.5]]).round(2).tolist()
        [[0.5, 0.5]]
        """
        model, X = self._asked(X)
        return model.answers.proba(model.logits(model.prepared(X)))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Measures the accuracy on inputs X with labels y, given as in :meth:`fit`."""
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
        """Computes calibrated logits ``[Q, K]``; for two classes, second minus first, ``[Q]``."""
        model, X = self._asked(X)
        logits = model.answers.calibrated(model.logits(model.prepared(X)))
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_set(self, X: Any, coverage: float = 0.9) -> list[Labels]:
        """Predicts for each input a set of possible labels, the most probable first.

        The sets hold the true label of this share of the inputs of known classes (conformal
        prediction). They are large for difficult inputs; when accuracy exceeds the requested
        coverage, some sets are empty.

        >>> classifier = FewShotClassifier().fit([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
        >>> [each.tolist() for each in classifier.predict_set([[0.5], [2.5]], coverage=0.5)]
        [[0], []]

        Raises:
            ValueError: if the coverage is not between 0 and 1, no class has two examples, or the
                classifier was fitted with ``calibrate=False``.
        """
        model, X = self._asked(X)
        return model.predict_set(X, coverage)

    def suggest(self, X: Any, n: int = 1) -> NDArray[np.int64]:
        """Suggests which of the unlabelled inputs X to label next.

        >>> classifier = FewShotClassifier().fit([[0.0, 0.0], [5.0, 5.0]], ["near", "far"])
        >>> classifier.suggest([[0.1, 0.0], [-5.0, 5.0], [5.0, 4.9]]).tolist()
        [1]

        Returns:
            The numbers of n rows, the most helpful first.
        """
        model, X = self._asked(X)
        if not isinstance(n, int | np.integer):
            raise InputError(f"{n!r} suggestions were asked for; give a whole number.")
        return model.suggest(X, int(n))

    def explain(self, x: Any) -> Explanation:
        """Shows which examples spoke for and against the answer to one input.

        The weights are each example's exact share of the logit for logistic regression, and the
        similarity of features for other strategies; ``Explanation.meaning`` states which.

        >>> X = [[0.0, 0.1], [0.2, 0.0], [5.0, 5.1], [5.2, 4.9]]
        >>> classifier = FewShotClassifier().fit(X, ["near", "near", "far", "far"])
        >>> explanation = classifier.explain([4.8, 5.0])
        >>> explanation.label, explanation.supporting[0].label
        ('far', 'far')

        Args:
            x: one input, such as a path or a vector ``[D]``.
        """
        check_is_fitted(self)
        row = self._reads_vectors() and is_array(x) and np.ndim(x) < 3
        single = np.asarray(x).reshape(1, -1) if row else [x]
        model, single = self._asked(single)
        return model.explain(single)

    @property
    def classes_(self) -> Labels:
        """The sorted labels, ``[K]``."""
        return self.model_.classes

    @property
    def theta_(self) -> Theta:
        """θ, the parameters of the learner."""
        return self.model_.learner.theta

    @property
    def strategy_(self) -> Strategy:
        """The strategy that adapted."""
        return self.model_.learner.strategy

    @property
    def temperature_(self) -> float:
        """The number that logits are divided by."""
        return self.model_.answers.temperature

    def _asked(self, X: Any) -> tuple[Model, Any]:
        """The current model and X checked for it; a fit that runs meanwhile changes neither."""
        check_is_fitted(self)
        now = copy.copy(self)
        return now.model_, now._checked(inputs_alone(X, now._modality()), reset=False)

    def _modality(self, reset: bool = False) -> str | None:
        """The modality of the inputs, as in ``Inputs.modality``; None while it is unknown."""
        if hasattr(self, "model_") and not reset:
            return self.model_.parts.reader.modality
        own = self.inputs or getattr(self.encoder, "inputs", None)
        return getattr(own, "modality", None)

    def _reads_vectors(self) -> bool:
        return self.model_.parts.reader.modality == FeatureInputs.modality

    def _checked(self, X: Any, reset: bool) -> Any:
        """X, validated by scikit-learn if it is a table of numbers."""
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
