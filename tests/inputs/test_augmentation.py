import math

import pytest
import torch

from quickstudy.inputs import Augmentation


def pictures(count=64, size=12):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))


def test_nothing_asked_nothing_changed():
    images = pictures()
    assert Augmentation()(images) is images
    assert torch.equal(Augmentation(degrees=20, share=0.0)(images), images)


def test_no_images_stay_none():
    """Strategies that learn from ordinary batches have an empty support."""
    none = pictures()[:0]
    assert Augmentation(shift=0.1, flip=True)(none).shape == none.shape


def test_flip_mirrors_about_half():
    images = pictures(400)
    flipped = Augmentation(flip=True)(images)
    # Coordinates of mirrored pixels are exact to rounding.
    mirrored = torch.isclose(flipped, images.flip(-1), atol=1e-4).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert bool((mirrored | same).all())
    assert 150 < int(mirrored.sum()) < 250  # five standard deviations of 400 coins


def test_share_leaves_the_others_as_they_are():
    images = pictures(400)
    torch.manual_seed(0)
    changed = (Augmentation(degrees=15, share=0.25)(images) != images).flatten(1).any(1)
    assert 50 < int(changed.sum()) < 150


def test_amounts_bound_the_maps():
    torch.manual_seed(0)
    matrices = Augmentation(degrees=10, scale=0.2, shift=0.1).matrices(500)
    linear, offset = matrices[:, :, :2], matrices[:, :, 2]
    factor = torch.linalg.det(linear).sqrt()
    angle = torch.atan2(linear[:, 1, 0], linear[:, 0, 0])
    assert float(angle.abs().max()) <= math.radians(10) + 1e-6
    assert float(angle.abs().max()) > math.radians(9)
    assert 1 / 1.2 - 1e-6 <= float(factor.min()) < 0.86
    assert 1.16 < float(factor.max()) <= 1.2 + 1e-6
    assert 0.18 < float(offset.abs().max()) <= 0.2


def test_a_shift_by_whole_pixels_moves_pixels():
    class ByTwo(Augmentation):
        def matrices(self, count):
            moved = torch.eye(2, 3).repeat(count, 1, 1)
            moved[:, 0, 2] = 2 * 2 / 12  # two of twelve pixels, on a side of length 2
            return moved

    images = pictures(3)
    moved = ByTwo(shift=0.1)(images)
    torch.testing.assert_close(moved[..., :-2], images[..., 2:], atol=1e-5, rtol=0)


def test_it_depends_on_the_seed_alone():
    augmentation = Augmentation(degrees=10, shift=0.1, flip=True)
    torch.manual_seed(3)
    first = augmentation(pictures())
    torch.manual_seed(3)
    assert torch.equal(augmentation(pictures()), first)
    assert not torch.equal(augmentation(pictures()), first)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        Augmentation(degrees=-1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Augmentation(share=2)
