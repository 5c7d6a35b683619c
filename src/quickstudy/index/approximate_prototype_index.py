"""The nearest prototypes among very many classes: approximate, and much faster."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.index.prototype_index import SPARE_CANDIDATES, Nearest, PrototypeIndex


class ApproximatePrototypeIndex:
    """Looks for the nearest prototypes only where they are likely: an inverted file, by faiss.

    k-means sorts the prototypes into cells; a query is compared with those of the nearest cells.
    What is found is scored as in the exact index; what lies in other cells is missed. Suits
    prototypes that form groups; the more a query resembles nothing, the more is missed.

    Jégou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", PAMI 2011, section IV
    (without the quantization).

    Args:
        index: the exact index, which has to stay as it is: after adding to it, make another of
            these. faiss keeps a copy of its prototypes on the CPU.
        cells: how many cells; 4 √K by default, at most K.
        probes: how many cells a query searches, the knob between speed and accuracy: the time goes
            with ``probes / cells``, and with as many probes as cells nothing is missed. It may be
            changed at any time.
        seed: of k-means.
    """

    def __init__(
        self, index: PrototypeIndex, cells: int | None = None, probes: int = 16, seed: int = 0
    ) -> None:
        faiss = _faiss()
        if not index.examples:
            raise InputError("The index has no classes yet; add examples first.")
        self.index = index
        self.probes = probes
        self.cells = min(round(4 * math.sqrt(len(index))), len(index)) if cells is None else cells
        if not 1 <= self.cells <= len(index):
            raise InputError(
                f"{cells} cells were asked for {len(index)} classes; ask for 1 to as many as there "
                "are."
            )
        self._examples = index.examples
        self._centre = index.prototypes.mean(0)
        dimensions = index.prototypes.shape[1]
        self._quantizer = faiss.IndexFlatL2(dimensions)
        self._file = faiss.IndexIVFFlat(self._quantizer, dimensions, self.cells)
        self._file.cp.seed = seed
        self._file.cp.min_points_per_centroid = 1  # few prototypes are no cause for a warning
        self._file.cp.max_points_per_centroid = 64  # more makes k-means slower, but no better
        vectors = self._vectors(index.prototypes).numpy()
        self._file.train(vectors)
        self._file.add(vectors)

    @torch.no_grad()
    def nearest(self, features: Tensor, k: int = 1) -> Nearest:
        """The ``k`` nearest classes of each query, as far as they lie in the cells searched.

        Args and errors are those of :meth:`PrototypeIndex.nearest`; a query whose cells hold fewer
        than ``k`` classes searches more of them.
        """
        index = self.index
        if index.examples != self._examples:
            raise InputError(
                "The index has got examples since this approximation of it was made; make another."
            )
        if self.probes < 1:
            raise InputError(f"{self.probes} probes find nothing; ask for 1 to {self.cells}.")
        index.check_queries(features, k)
        found = index.rank(features, self._candidates(features.detach(), k), k)
        kind = torch.promote_types(features.dtype, index.prototypes.dtype)
        return Nearest(found.scores.to(kind), found.classes)

    def _candidates(self, features: Tensor, k: int) -> Tensor:
        """Classes ``[Q, C]`` from the cells nearest to each query, ``k`` or more."""
        faiss, wanted = _faiss(), min(k + SPARE_CANDIDATES, len(self.index))
        vectors = self._vectors(features).numpy()
        found = np.full((len(vectors), wanted), -1)
        probes = self.probes
        while len(
            short := np.flatnonzero(found[:, -1] < 0)
        ):  # faiss marks by -1 that it found less
            # Not set on the index itself, which other threads may be searching too.
            cells = faiss.SearchParametersIVF(nprobe=min(probes, self.cells))
            found[short] = self._file.search(vectors[short], wanted, params=cells)[1]
            probes *= 2
        return torch.from_numpy(found).to(features.device)

    def _vectors(self, features: Tensor) -> Tensor:
        """What faiss compares by Euclidean distance: float32 on the CPU."""
        if self.index.distance == "cosine":
            features = F.normalize(features.float(), dim=1)
        else:
            features = features - self._centre  # near the origin float32 has digits enough
        return features.float().cpu().contiguous()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "An approximate index needs faiss, which is not installed: "
            "pip install 'quickstudy[faiss]'."
        ) from error
    return faiss
