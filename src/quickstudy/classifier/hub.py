"""Classifiers in repositories of the Hugging Face hub."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from quickstudy.classifier.embedded_encoder import file_name, folders_of, is_unpacked
from quickstudy.classifier.file import save_model
from quickstudy.classifier.model import Model
from quickstudy.errors import MissingFileError
from quickstudy.inputs.modalities import MODALITIES, is_text
from quickstudy.messages import warn_caller
from quickstudy.saving.hub import is_hub_id, looking_up

FILE = "classifier.qs"
_MOST_CLASSES_NAMED = 100


def downloaded(path: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The file at a path, or the file of a repository ``"owner/name"`` of the hub.

    Raises:
        FileNotFoundError: when there is neither, or the hub cannot be reached.
    """
    if Path(path).is_dir() and (Path(path) / FILE).is_file():
        return Path(path) / FILE
    if Path(path).exists() or not is_hub_id(str(path)):
        return Path(path)
    import huggingface_hub
    from huggingface_hub import errors

    try:
        with looking_up(str(path), "classifier", revision):
            return Path(huggingface_hub.hf_hub_download(str(path), FILE, revision=revision))
    except errors.EntryNotFoundError as error:
        raise MissingFileError(
            f"The repository {str(path)!r} holds no {FILE}, so it is no classifier of quickstudy."
        ) from error


def upload(
    model: Model,
    repo_id: str,
    private: bool | None,
    token: str | None,
) -> str:
    """Uploads a classifier and its card; returns the address of the commit.

    Args:
        model: the classifier.
        repo_id: ``"owner/name"``.
        private: whether a new repository is private.
        token: access token of the hub.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        _save(model, Path(folder) / FILE)
        (Path(folder) / "README.md").write_text(card(model, repo_id), encoding="utf-8")
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message="A classifier of quickstudy"
        )
    return str(commit)


def _save(model: Model, path: Path) -> None:
    """Writes what may be read by others: the encoder itself where its folder is on this machine."""
    reader, support = model.parts.reader, model.support
    folders = folders_of(reader.inputs, reader.encoder, model.learner.strategy)
    local = {name: each for name, each in folders.items() if each.revision is None}
    # A text can begin with a slash too.
    names = [
        name
        if is_text(reader.modality) and Path(name).suffix.lower() not in MODALITIES["text"].endings
        else file_name(name)
        for name in support.names
    ]
    shown = replace(model, support=replace(support, names=names))
    save_model(shown, path, embed_encoder=bool(local))
    if new := [Path(name).name for name in local if not is_unpacked(name)]:
        size = path.stat().st_size / 2**20
        warn_caller(
            f"The encoder of the local folder {', '.join(new)} is uploaded as a part of the "
            f"classifier ({size:.1f} MiB in all), as nobody else has the folder."
        )


def card(model: Model, repo_id: str) -> str:
    """The model card."""
    reader = model.parts.reader
    # A local path reveals whose machine it was, and is of no use to anyone else.
    local = reader.name is not None and reader.revision is None
    named = Path(reader.name).name if reader.name and local else reader.name
    encoder = named or type(reader.encoder or model.learner.strategy).__name__
    sizes, count = [*model.sizes.items()], len(model.support)
    rows = "\n".join(f"| {label} | {size} |" for label, size in sizes[:_MOST_CLASSES_NAMED])
    more = len(sizes) - _MOST_CLASSES_NAMED
    rest = f"\n\nAnd {more} more classes." if more > 0 else ""
    return f"""---
library_name: quickstudy
tags:
- few-shot-learning
- {reader.modality}-classification
---

# {repo_id}

A few-shot classifier of {len(sizes)} classes, learned from {count} examples with quickstudy.

- Inputs: {reader.modality}
- Encoder: {encoder}
- Strategy: {type(model.learner.strategy).__name__}

```python
from quickstudy import FewShotClassifier

classifier = FewShotClassifier.load("{repo_id}")
classifier.predict([...])
```

| class | examples |
| --- | --- |
{rows}{rest}
"""
