"""Random changes to images that leave their class as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """Random affine maps and mirror images, drawn for each image by itself.

    What comes in from outside repeats the image's border.

    Args:
        degrees: rotate by an angle up to this, either way.
        shift: move along each axis by up to this fraction of the side.
        scale: enlarge or shrink by a factor up to 1 + scale.
        shear: slant by up to this slope.
        share: the fraction of images that rotation, shift, scale and shear change; the others stay
            sharp, as interpolation blurs.
        flip: mirror half of all images, left to right.
    """

    degrees: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    share: float = 1.0
    flip: bool = False

    def __post_init__(self) -> None:
        if min(self.degrees, self.shift, self.scale, self.shear) < 0 or not 0 <= self.share <= 1:
            raise InputError(
                f"{self} is no augmentation: amounts must not be negative, and the share lies "
                "between 0 and 1."
            )

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        affine = self.degrees or self.shift or self.scale or self.shear
        return bool((affine and self.share) or self.flip)

    def __call__(self, images: Tensor) -> Tensor:
        """Images ``[B, C, H, W]``, changed with torch's random numbers."""
        if not (self.changes and len(images)):
            return images
        matrices = self.matrices(len(images)).to(images)
        grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
        moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        # An image that stays where it is must not even suffer rounding.
        still = (matrices == torch.eye(2, 3).to(matrices)).all((1, 2))
        return torch.where(still[:, None, None, None], images, moved)

    def matrices(self, count: int) -> Tensor:
        """Random maps ``[B, 2, 3]`` from the new image's coordinates (-1 to 1) to the old one's."""

        def within(amount: float, *shape: int) -> Tensor:
            return amount * (2 * torch.rand(count, *shape) - 1)

        angle = within(math.radians(self.degrees))
        factor = torch.exp(within(math.log1p(self.scale)))
        slope = within(self.shear)
        cos, sin = factor * angle.cos(), factor * angle.sin()
        rows = torch.stack([cos, slope * cos - sin, sin, slope * sin + cos], -1)
        linear = rows.view(count, 2, 2)
        offset = within(2 * self.shift, 2)[:, :, None]  # the side is 2 long
        matrices = torch.cat([linear, offset], dim=-1)
        changed = torch.rand(count) < self.share
        matrices = torch.where(changed[:, None, None], matrices, torch.eye(2, 3))
        if self.flip:
            mirrored = torch.rand(count) < 0.5
            matrices[mirrored, 0] = -matrices[mirrored, 0]
        return matrices
