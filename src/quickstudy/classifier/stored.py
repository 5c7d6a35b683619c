"""Estimators that are saved to files and to the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from quickstudy.classifier.file import load_model, save_model
from quickstudy.classifier.hub import downloaded, upload
from quickstudy.classifier.model import Model
from quickstudy.deprecated import once_positional


class StoredEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator around a :class:`Model`, which is what files store.

    Attributes:
        model_: the fitted model.
        n_features_in_: D, if the inputs are vectors.
        feature_names_in_: the names of the D columns, if the inputs are a table that names them.
    """

    model_: Model
    n_features_in_: int
    feature_names_in_: NDArray[Any]

    @once_positional("embed_encoder")
    def save(self, path: str | os.PathLike[str], *, embed_encoder: bool = False) -> None:
        """Writes the classifier to one file, which holds no code and no pickle.

        An encoder that was loaded by name is stored by its name, any other with its weights.

        Args:
            path: path of the file.
            embed_encoder: also store the folder of a pretrained encoder (its settings, tokenizer
                and weights), so that another machine needs nothing but the file. A classifier
                loaded from such a file always stores its encoder.

        Raises:
            FileNotFoundError: if the folder to embed no longer exists.
            ValueError: if a module is of a class that cannot be described, or the encoder cannot
                be embedded.
        """
        check_is_fitted(self)
        save_model(self.model_, Path(path), embed_encoder)

    @classmethod
    @once_positional("trust", "device", "revision")
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        trust: Sequence[str] = (),
        device: str | torch.device | None = None,
        revision: str | None = None,
    ) -> Self:
        """Reads a classifier from its file or from a repository of the Hugging Face hub.

        A ``random_state`` that was not a whole number is 0 afterwards.

        Args:
            path: a ``.qs`` file, or ``"owner/name"`` on the hub.
            trust: import paths of classes outside this package that the file may use, such as
                ``["my_package.MyEncoder"]``. Importing them runs their code.
            device: where to compute; the CPU by default.
            revision: branch, tag or commit of the repository.

        Raises:
            FileNotFoundError: if there is neither.
            ValueError: if the file is damaged, of another version, or names other classes.
        """
        model = load_model(downloaded(path, revision), trust=trust, device=device)
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

    @once_positional("private", "token")
    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, token: str | None = None
    ) -> str:
        """Uploads the classifier and a model card to the Hugging Face hub.

        The upload holds no path of this machine: a pretrained encoder in a local folder is
        embedded, with a warning, and examples with absolute paths keep only their file names.

        Args:
            repo_id: ``"owner/name"``; created if it does not exist.
            private: whether a new repository is private.
            token: access token of the hub; by default that of the user who is logged in.

        Returns:
            The address of the commit.
        """
        check_is_fitted(self)
        return upload(self.model_, repo_id, private, token)

    def _learned(self, model: Model) -> Self:
        if hasattr(self, "n_features_in_"):
            model.extra["columns"] = int(self.n_features_in_)
        if hasattr(self, "feature_names_in_"):
            model.extra["column_names"] = self.feature_names_in_.tolist()
        if isinstance(self.random_state, int | np.integer):
            model.extra["random_state"] = int(self.random_state)
        self.model_ = model
        return self
