"""The nearest prototypes among very many classes: exact, in bounded memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.strategies.functional import (
    Distance,
    check_distance,
    in_full_precision,
    similarity,
)

SPARE_CANDIDATES = 8  # classes beyond k that are compared exactly; enough unless many nearly tie
CLASSES_AT_ONCE = 1024  # their prototypes stay in a CPU's cache between the passes over them
# What torch may round the factors of a float32 product to, by its float32 matmul precision.
ROUNDING_OF_FACTORS = {"highest": 0.0, "high": 2.0**-10, "medium": 2.0**-8}


class Nearest(NamedTuple):
    """The k nearest classes of Q queries, the nearest first; of equals the lower class number.

    Scores are compared in float64 before they are rounded to the type of the result.

    Attributes:
        scores: ``[Q, k]``, logits or log-probabilities.
        classes: ``[Q, k]`` int64.
    """

    scores: Tensor
    classes: Tensor


class PrototypeIndex:
    """Classifies by the nearest of any number of prototypes, without ever holding a row of logits.

    The logits are those of :class:`PrototypicalNetwork`. The search is exact: block by block, a
    matrix product in the prototypes' precision gives every class an upper bound of its score,
    rounding included; the few best are compared in float64. A query for which a class left out
    might still have won is searched again with more candidates. So the result is float64's,
    whatever the block size, and equal prototypes tie exactly.

    Args:
        prototypes: ``[K, D]``, on a device that has float64; kept in float64 if given so, else in
            float32. ``K`` may be 0. Copied only when examples are added.
        distance: "euclidean" (squared) or "cosine".
        scale: multiplies the logits, as in :class:`PrototypicalNetwork`; above 0.
        counts: ``[K]``, how many examples each prototype is the mean of; 1 each by default. They
            weigh the prototypes when examples are added.
        block_bytes: bounds the memory that a call takes beyond the index, its arguments and its
            result (made in float64); one query and one prototype at a time is the least it can do.

    Example:
        >>> import torch
        >>> from quickstudy.index import PrototypeIndex
        >>> index = PrototypeIndex(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        >>> found = index.nearest(torch.tensor([[3.0, 3.0]]), k=2)
        >>> found.classes
        tensor([[1, 0]])
    """

    def __init__(
        self,
        prototypes: Tensor,
        distance: Distance = "euclidean",
        scale: float = 1.0,
        *,
        counts: Tensor | None = None,
        block_bytes: int = 64 * 2**20,
    ) -> None:
        check_distance(distance)
        if scale <= 0:
            raise InputError(f"The scale is {scale}; with one above 0 the nearest scores highest.")
        if block_bytes < 1:
            raise InputError(f"The block size is {block_bytes} bytes; give a positive number.")
        if prototypes.ndim != 2 or not prototypes.shape[1] or not prototypes.is_floating_point():
            raise InputError(
                "Prototypes must be a matrix of floating-point numbers [classes, dimensions]; "
                f"given were {prototypes.dtype} of shape {list(prototypes.shape)}."
            )
        if counts is None:
            counts = torch.ones(len(prototypes), dtype=torch.int64)
        if counts.shape != prototypes.shape[:1] or (len(counts) and int(counts.min()) < 1):
            raise InputError(
                f"Counts must be {len(prototypes)} numbers above 0, one for each prototype; given "
                f"was a tensor of shape {list(counts.shape)}."
            )
        self.distance: Distance = distance
        self.scale = scale
        self.block_bytes = block_bytes
        full = torch.float64 if prototypes.dtype == torch.float64 else torch.float32
        self._means = prototypes.detach().to(full)
        self._counts = counts.to(prototypes.device, torch.int64)
        self._check_features(prototypes)
        self._owned = False  # the caller's tensors are copied before they are written to
        self._size = len(prototypes)
        self.examples = int(counts.sum())

    @classmethod
    def from_examples(
        cls,
        features: Tensor,
        targets: Tensor,
        distance: Distance = "euclidean",
        scale: float = 1.0,
        *,
        block_bytes: int = 64 * 2**20,
    ) -> PrototypeIndex:
        """The index of the class means of features ``[N, D]`` with targets ``[N]`` int64."""
        index = cls(features[:0], distance, scale, block_bytes=block_bytes)
        index.add(features, targets)
        return index

    def __len__(self) -> int:
        """How many classes there are, K."""
        return self._size

    @property
    def prototypes(self) -> Tensor:
        """The class means ``[K, D]``; zeros for a class without examples."""
        return self._means[: self._size]

    @property
    def counts(self) -> Tensor:
        """How many examples each class has had: ``[K]`` int64."""
        return self._counts[: self._size]

    @torch.no_grad()
    def add(self, features: Tensor, targets: Tensor) -> None:
        """Adds examples of old classes or new; only the means of their classes are computed anew.

        Args:
            features: ``[N, D]``.
            targets: ``[N]`` int64, from 0 on; a number beyond the last makes classes up to it.

        Raises:
            ValueError: if shapes or types do not fit, or a feature is not finite. Nothing is added
                then.
        """
        self._check_features(features)
        if targets.shape != features.shape[:1] or targets.dtype != torch.int64:
            raise InputError(
                f"Targets must be one int64 for each of {len(features)} features; given were "
                f"{targets.dtype} of shape {list(targets.shape)}."
            )
        if not len(targets):
            return
        if int(targets.min()) < 0:
            raise InputError(f"Class numbers start at 0; the lowest target is {targets.min()}.")
        self._make_room(int(targets.max()) + 1)
        at_once = self._at_once(48 * features.shape[1])
        targets = targets.to(self._means.device)
        blocks = zip(torch.split(features, at_once), torch.split(targets, at_once), strict=True)
        for block, owners in blocks:
            classes, row, new = torch.unique(owners, return_inverse=True, return_counts=True)
            means = self._means[classes].double()
            # The mean moves by what the examples differ from it: nothing but it has to be kept.
            moves = torch.zeros_like(means).index_add_(0, row, block.to(means) - means[row])
            self._counts[classes] += new
            means += moves / self._counts[classes, None]
            self._means[classes] = means.to(self._means.dtype)
        self.examples += len(features)

    @torch.no_grad()
    def nearest(self, features: Tensor, k: int = 1) -> Nearest:
        """The ``k`` nearest classes of each query.

        Args:
            features: ``[Q, D]``.
            k: how many classes.

        Returns:
            The logits ``[Q, k]``, in the wider type of features and prototypes, and the classes.

        Raises:
            ValueError: if shapes or types do not fit, a feature is not finite, ``k`` is not in
                1..K, or a class has no examples.
        """
        self.check_queries(features, k)
        scores, classes = self._search(features, k)
        return Nearest(scores.to(torch.promote_types(features.dtype, self._means.dtype)), classes)

    @torch.no_grad()
    def log_probabilities(self, features: Tensor, k: int = 1) -> Nearest:
        """Like :meth:`nearest`, with log p(class | query) over all K classes for the logits.

        The normaliser is summed block by block in float64, which takes longer than the search.
        """
        self.check_queries(features, k)
        scores, classes = self._search(features, k)
        scores.sub_(self._log_normaliser(features)[:, None]).clamp_(max=0)
        return Nearest(scores.to(torch.promote_types(features.dtype, self._means.dtype)), classes)

    @torch.no_grad()
    def rank(self, features: Tensor, candidates: Tensor, k: int = 1) -> Nearest:
        """The ``k`` nearest among some classes of each query's own, by logits in float64.

        Args:
            features: ``[Q, D]``.
            candidates: ``[Q, C]`` int64, no class twice in a row.
            k: how many, at most ``C``.
        """
        width = candidates.shape[1]
        candidates = candidates.sort(dim=1).values  # a stable sort then leaves equals in this order
        scores = torch.empty_like(candidates, dtype=torch.float64)
        at_once = self._at_once(48 * features.shape[1])
        every = torch.arange(candidates.numel(), device=candidates.device)
        for pairs in torch.split(every, at_once):
            means = self._means[candidates.view(-1)[pairs]].double()
            queries = features[pairs // width].double()
            scores.view(-1)[pairs] = _score_pairs(queries, means, self.distance)
        scores, order = (self.scale * scores).sort(dim=1, descending=True, stable=True)
        return Nearest(scores[:, :k], candidates.gather(1, order[:, :k]))

    def check_queries(self, features: Tensor, k: int) -> None:
        """Refuses what :meth:`nearest` cannot answer, by a ValueError."""
        self._check_features(features)
        if not 1 <= k <= self._size:
            raise InputError(
                f"The {k} nearest were asked for, of {self._size} classes; ask for 1 to as many as "
                "there are."
            )
        if int(self.counts.min()) == 0:
            empty = (self.counts == 0).nonzero()[:, 0]
            raise InputError(
                f"{len(empty)} of {self._size} classes have no examples yet, class {int(empty[0])} "
                "first. Add examples of each, or number the classes without gaps."
            )

    def _search(self, features: Tensor, k: int, width: int | None = None) -> Nearest:
        """The ``k`` nearest, in float64, at first by ``width`` candidates for each query."""
        size, dimensions = self.prototypes.shape
        width = min(width or k + SPARE_CANDIDATES, size)
        scores = features.new_empty(len(features), k, dtype=torch.float64)
        classes = torch.empty_like(scores, dtype=torch.int64)
        at_once = self._at_once(40 * dimensions + 12 * CLASSES_AT_ONCE + 120 * width)
        for block in torch.split(torch.arange(len(features), device=features.device), at_once):
            candidates, limits = self._candidates(features[block].double(), width)
            found = self.rank(features[block], candidates, k)
            scores[block], classes[block] = found
            # A class left out may come before the last one found, or tie with it.
            unsure = block[found.scores[:, -1] <= limits]
            if len(unsure):
                scores[unsure], classes[unsure] = self._search(features[unsure], k, 4 * width)
        return Nearest(scores, classes)

    def _candidates(self, queries: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """The classes ``[Q, width]`` with the highest upper bounds of their scores.

        Also returns a limit ``[Q]`` that no other class's logit exceeds.
        """
        size, dimensions = self.prototypes.shape
        if width == size:
            every = torch.arange(size, device=queries.device).expand(len(queries), size)
            return every, queries.new_full((len(queries),), -torch.inf)
        kind = self._means.dtype
        slack = _slack(dimensions, kind)
        centre = self._centre(queries).to(kind)
        points = (queries - centre).to(kind)
        if self.distance == "cosine":
            points = F.normalize(queries, dim=1).to(kind)
        bounds = points.new_empty(len(queries), 0)
        classes = torch.empty_like(bounds, dtype=torch.int64)
        at_once = min(CLASSES_AT_ONCE, self._at_once(16 * dimensions))
        for start in range(0, size, at_once):
            means = self.prototypes[start : start + at_once]
            block = _upper_bounds(points, means, centre, self.distance, slack)
            best = block.topk(min(width, len(means)), dim=1)
            bounds = torch.cat([bounds, best.values], dim=1)
            classes = torch.cat([classes, best.indices + start], dim=1)
            bounds, kept = bounds.topk(min(width, bounds.shape[1]), dim=1)
            classes = classes.gather(1, kept)
        limits = bounds[:, -1].double()
        if self.distance == "euclidean":
            limits -= (1 - slack) * points.double().square().sum(1)
        # What underflows is lost to the relative bound.
        limits += 4 * dimensions * torch.finfo(kind).tiny
        return classes, self.scale * limits

    def _log_normaliser(self, features: Tensor) -> Tensor:
        """The logarithm of Σ_k exp(logit_k) of each query: ``[Q]`` float64."""
        size, dimensions = self.prototypes.shape
        classes_at_once = min(CLASSES_AT_ONCE, self._at_once(40 * dimensions))
        totals = []
        queries_at_once = self._at_once(48 * dimensions + 40 * classes_at_once)
        for block in torch.split(features, queries_at_once):
            queries = block.double()
            centre = self._centre(queries)
            total = queries.new_full((len(block),), -torch.inf)
            for start in range(0, size, classes_at_once):
                means = self.prototypes[start : start + classes_at_once] - centre
                logits = similarity((queries - centre)[None], means[None], self.distance)[0]
                total = total.logaddexp(logits.mul_(self.scale).logsumexp(1))
            totals.append(total)
        return torch.cat(totals)

    def _centre(self, queries: Tensor) -> Tensor:
        """A point ``[D]`` among the queries: distances are found from there.

        Far from the origin, |q|² − 2 q·p + |p|² would cancel to few digits or none. Angles, though,
        are seen from the origin.
        """
        centre = queries.mean(0)
        return centre if self.distance == "euclidean" else torch.zeros_like(centre)

    def _at_once(self, bytes_each: int) -> int:
        """How many are worked on at a time: a third each for queries, for classes, and spare."""
        return max(1, self.block_bytes // (3 * bytes_each))

    def _make_room(self, size: int) -> None:
        """Makes classes up to ``size``, and the tensors writable."""
        # More room than asked for, so that classes that come one by one are seldom copied.
        grown = max(size, len(self._means) * 5 // 4) if len(self._means) < size else 0
        if grown:
            rest = (0, grown - len(self._means))
            self._means = F.pad(self._means, (0, 0, *rest))
            self._counts = F.pad(self._counts, rest)
        elif not self._owned:
            self._means, self._counts = self._means.clone(), self._counts.clone()
        self._owned = True
        self._size = max(self._size, size)

    def _check_features(self, features: Tensor) -> None:
        dimensions = self._means.shape[1]
        if features.ndim != 2 or features.shape[1] != dimensions:
            raise InputError(
                f"The prototypes have {dimensions} dimensions, so features must be of shape "
                f"[examples, {dimensions}]; given was {list(features.shape)}."
            )
        if not features.is_floating_point():
            raise InputError(f"Features must be floating-point numbers; given was {features.dtype}")
        most = torch.finfo(self._means.dtype).max / 16  # no sum of squared differences overflows
        for block in torch.split(features.detach(), self._at_once(16 * dimensions)):
            lengths = block.to(self._means.dtype).square().sum(1)
            wrong = int((~(lengths <= most)).sum())
            if wrong:
                raise InputError(
                    f"{wrong} features hold NaN, infinity, or numbers too large to square in "
                    f"{self._means.dtype}. Drop or mend them."
                )


def _slack(dimensions: int, kind: torch.dtype) -> float:
    """How far rounding may move a score, as a share of |q|² + |p|² (of 1 for cosine).

    The usual bound of an inner product's error, n u |q| |p| with unit roundoff u, for the product,
    the squared lengths and their sum, with something to spare.
    """
    slack = 2 * (dimensions + 8) * torch.finfo(kind).eps
    if kind == torch.float32:
        slack += 4 * ROUNDING_OF_FACTORS[torch.get_float32_matmul_precision()]
    return slack


@in_full_precision
def _upper_bounds(
    points: Tensor, means: Tensor, centre: Tensor, distance: Distance, slack: float
) -> Tensor:
    """Upper bounds of scores, ``[Q, K]``; for euclidean without the part that all classes share."""
    if distance == "cosine":
        return torch.addmm(points.new_tensor(slack), points, F.normalize(means, dim=1).T)
    means = means - centre
    shares = (slack - 1) * means.square().sum(1)
    return torch.addmm(shares, points, means.T, alpha=2)


def _score_pairs(queries: Tensor, means: Tensor, distance: Distance) -> Tensor:
    """The :func:`similarity` of each row to its own: ``[P]`` of ``[P, D]`` and ``[P, D]``.

    Equal rows give equal numbers, as they need not in a matrix product, whose order of additions
    depends on where a row lies.
    """
    if distance == "cosine":
        return (F.normalize(queries, dim=1) * F.normalize(means, dim=1)).sum(1)
    return -(queries - means).square().sum(1)
