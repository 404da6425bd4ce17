import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from rfkit import config
from rfkit.training import batches


def images(count=6, size=12):
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)


def test_normalised_equals_torchvision():
    x, mean, std = images(), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = torch.stack([tv.normalize(tv.to_tensor(image.numpy()), mean, std) for image in x])
    ours = batches.normalised(x, mean, std)
    assert torch.allclose(ours, expected, atol=1e-6) and ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("flipped", [True, False])
def test_crops_equal_torchvision(flipped):
    x, size = images(), 12
    padded = torch.nn.functional.pad(x, (0, 0, 4, 4, 4, 4))
    chosen = torch.tensor([5, 0, 3, 3])
    offsets = torch.tensor([[0, 8, 4, 2], [8, 0, 4, 5]])
    flip = torch.tensor([True, False, True, False]) if flipped else None
    ours = batches.crops(padded, chosen, offsets, flip)
    for i, image in enumerate(ours):
        planes = tv.pad(x[chosen[i]].permute(2, 0, 1), 4)
        expected = tv.crop(planes, int(offsets[0, i]), int(offsets[1, i]), size, size)
        if flipped and flip[i]:
            expected = tv.hflip(expected)
        assert torch.equal(image.permute(2, 0, 1), expected)


def test_resized_crop_of_the_whole_image_is_the_image(monkeypatch):
    x = images(3, 16)
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high, generator=None: self.fill_(min(high, 1.0)))
    monkeypatch.setattr(torch, "exp", lambda t: torch.ones_like(t))
    flip = torch.tensor([False, True, False])
    ours = batches.resized_crops(x, flip, torch.Generator())
    expected = torch.where(flip[:, None, None, None], x.flip(2), x).float()
    assert torch.allclose(ours, expected, atol=1e-3)


def test_resized_crops_stay_inside_and_differ():
    x = images(64, 16)
    ours = batches.resized_crops(x, torch.zeros(64, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert ours.min() >= 0 and ours.max() <= 255 and ours.shape == x.shape
    assert (ours - x.float()).abs().mean() > 10


@pytest.mark.parametrize("augmentation", config.AUGMENTATIONS)
def test_epochs_are_shuffled_complete_and_repeatable(digits, augmentation):
    def epochs(seed):
        loader = batches.TrainingBatches(digits, 50, augmentation, seed)
        assert len(loader) == 3
        return [list(loader) for _ in range(2)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert all(
        torch.equal(x, y) for a, b in zip(first, again, strict=True) for (x, _), (y, _) in zip(a, b, strict=True)
    )
    labels = torch.cat([y for _, y in first[0]])
    assert sorted(labels.tolist()) == sorted(digits.train_labels.tolist())
    assert not torch.equal(labels, torch.cat([y for _, y in first[1]]))
    assert not torch.equal(labels, torch.cat([y for _, y in other[0]]))
    assert first[0][0][0].dtype == torch.float32 and first[0][0][0].shape == (50, 3, 32, 32)


def test_crops_show_every_offset(digits):
    loader = batches.TrainingBatches(digits, 128, "crop_flip", 0)
    ((x, _),) = list(loader)
    plain = batches.normalised(digits.train_images, digits.mean, digits.std)
    assert x.shape == plain.shape and not torch.equal(x, plain)


def test_a_last_batch_of_one_is_dropped(digits):
    loader = batches.TrainingBatches(digits.sample(65, 1), 64, "none", 0)
    assert len(loader) == 1 and [len(y) for _, y in loader] == [64]


def test_share_takes_a_fixed_subset(digits):
    loader = batches.TrainingBatches(digits, 16, "none", 0, share=0.5)
    first, second = (sorted(torch.cat([y for _, y in loader]).tolist()) for _ in range(2))
    assert len(first) == 64 and first == second


def test_model_inputs(digits):
    model = torch.nn.Identity()
    with pytest.raises(ValueError, match="without channel statistics"):
        batches.model_inputs(model, digits.test_images)
    batches.remember_statistics(model, digits.mean, digits.std)
    x = batches.model_inputs(model, digits.test_images)
    assert x.shape == (64, 3, 32, 32) and model.state_dict() == {}
    ready = torch.randn(2, 3, 4, 4)
    assert batches.model_inputs(model, ready) is ready
    assert batches.model_inputs(model, np.zeros((2, 3, 4, 4))).dtype == torch.float64
