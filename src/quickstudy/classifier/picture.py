"""A picture of what the encoder makes of a classifier's examples."""

from __future__ import annotations

from pathlib import Path

from quickstudy.classifier.model import Model
from quickstudy.errors import InputError
from quickstudy.saving.files import atomically

_MOST_IN_LEGEND = 20


def plot_embedding(model: Model, path: Path) -> None:
    """Draws the features' two main directions (principal component analysis) to an image file.

    Raises:
        ValueError: when the file's ending names no format that can be drawn.
    """
    import matplotlib.pyplot as plt
    from sklearn.decomposition import PCA

    features = model.learner.features(model.parts.reader.prepare(model.support.kept))
    vectors = features.double().cpu().numpy()
    analysis = PCA(n_components=min(2, *vectors.shape), random_state=0)
    places = analysis.fit_transform(vectors)
    across = places[:, 0]
    along = places[:, 1] if places.shape[1] > 1 else 0 * across
    figure, axes = plt.subplots(figsize=(8, 6))
    try:
        targets = model.targets.numpy()
        for number, label in enumerate(model.classes.tolist()):
            inside = targets == number
            axes.scatter(across[inside], along[inside], s=24, label=str(label))
        shares = [f"{share:.0%}" for share in analysis.explained_variance_ratio_]
        axes.set_title(f"Features, main directions ({' and '.join(shares)} of the variance)")
        if len(model.classes) <= _MOST_IN_LEGEND:
            axes.legend(fontsize="small")
        if path.suffix.lower().lstrip(".") not in figure.canvas.get_supported_filetypes():
            raise InputError(f"{path} does not end in a known format of images, such as .png.")
        with atomically(path) as temporary:
            figure.savefig(temporary, format=path.suffix.lower().lstrip("."), dpi=120)
    finally:
        plt.close(figure)
