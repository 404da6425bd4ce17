"""Batches of augmented, normalised images, made on whole tensors: no per-image Python work."""

import numpy as np
import torch
import torch.nn.functional as F

PADDING = 4  # pixels on each side before the random crop, as in the author's code


def normalised(images, mean, std, device="cpu"):
    """Scale uint8 images to [0, 1] and normalise each channel."""
    images = torch.as_tensor(images).to(device)
    scale = 1 / (255 * torch.tensor(std, device=device))
    shift = -torch.tensor(mean, device=device) / torch.tensor(std, device=device)
    # (N, H, W, 3) in memory is channels_last already: permuting it is free
    planes = torch.addcmul(shift, images.float(), scale).permute(0, 3, 1, 2)
    return planes.contiguous(memory_format=torch.channels_last)


def remember_statistics(model, mean, std):
    """Tell a model the statistics of its training images, so that it can be given uint8 images later."""
    model.input_statistics = (tuple(mean), tuple(std))


def model_inputs(model, images, device="cpu"):
    """Images as a model wants them."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    expected = "expected uint8 (N, height, width, 3) or float (N, 3, height, width)"
    if not isinstance(images, torch.Tensor):
        raise ValueError(f"images are a {type(images).__name__}; {expected}, as an array or a tensor")
    if images.dtype == torch.uint8 and (images.dim() != 4 or images.shape[3] != 3):
        raise ValueError(f"images are uint8 {tuple(images.shape)}; {expected}")
    if images.dtype != torch.uint8:
        return images.to(device)
    statistics = getattr(model, "input_statistics", None)
    if statistics is None:
        raise ValueError(
            "uint8 images given to a model without channel statistics; train it with rfkit.training.fit, call "
            "rfkit.training.remember_statistics(model, data.mean, data.std), or pass normalised float images"
        )
    return normalised(images, *statistics, device=device)


class TrainingBatches:
    """Shuffled, augmented, normalised batches of a training set held on one device.

    Each pass over the object is one epoch. All their randomness comes from one CPU generator, so its state
    (`generator.get_state()`) and the epoch are all that is needed to resume.

    Args:
        data: `ImageData`.
        batch_size: Images per batch; a last batch of one image is dropped, since batch norm needs two.
        augmentation: One of `rfkit.config.AUGMENTATIONS`.
        seed: Seed of order and augmentation.
        device: Device of the images and batches.
        share: Share of the training images to use, a random subset fixed by the seed.
    """

    def __init__(self, data, batch_size, augmentation, seed, device="cpu", share=1.0):
        self.generator = torch.Generator().manual_seed(seed)
        self.augmentation, self.batch_size, self.device = augmentation, batch_size, device
        self.mean, self.std = data.mean, data.std
        images, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
        if share < 1:
            chosen = torch.randperm(len(images), generator=self.generator)[: round(share * len(images))]
            images, labels = images[chosen], labels[chosen]
        if len(images) < 2:
            raise ValueError(f"{len(images)} of the training images are used; expected at least two")
        if augmentation in ("crop", "crop_flip"):
            images = F.pad(images, (0, 0, PADDING, PADDING, PADDING, PADDING))
        self.images, self.labels = images.to(device), labels.to(device)

    def __len__(self):
        """Number of batches per epoch."""
        whole, rest = divmod(len(self.labels), self.batch_size)
        return whole + (rest > 1)

    def __iter__(self):
        """Yield (float images (B, 3, H, W), labels (B,)) in a fresh random order."""
        order = torch.randperm(len(self.labels), generator=self.generator)
        for chosen in order.split(self.batch_size)[: len(self)]:
            images = self._augmented(chosen)
            yield normalised(images, self.mean, self.std, self.device), self.labels[chosen.to(self.device)]

    def _augmented(self, chosen):
        count = len(chosen)
        flip = torch.rand(count, generator=self.generator) < 0.5 if "flip" in self.augmentation else None
        if self.augmentation == "resized_crop_flip":
            return resized_crops(self.images[chosen.to(self.device)], flip, self.generator)
        if self.augmentation == "none":
            return self.images[chosen.to(self.device)]
        offsets = torch.randint(2 * PADDING + 1, (2, count), generator=self.generator)
        return crops(self.images, chosen, offsets, flip)


def crops(padded, chosen, offsets, flip):
    """Cut one window out of each chosen image, some of them mirrored."""
    size = padded.shape[1] - 2 * PADDING
    windows = padded.unfold(1, size, 1).unfold(2, size, 1).movedim(3, -1)  # every one, as a view: nothing is copied
    cut = windows[chosen.to(padded.device), offsets[0].to(padded.device), offsets[1].to(padded.device)]
    return cut if flip is None else torch.where(flip.to(cut.device)[:, None, None, None], cut.flip(2), cut)


def resized_crops(images, flip, generator):
    """Random resized crop (area 8-100 %, aspect 3/4 to 4/3), bilinear, as torchvision's but on a whole batch."""
    count, size = len(images), images.shape[1]
    area = torch.empty(count).uniform_(0.08, 1.0, generator=generator)
    aspect = torch.exp(torch.empty(count).uniform_(float(np.log(3 / 4)), float(np.log(4 / 3)), generator=generator))
    extent = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()]).clamp(max=1.0)  # width, height
    centre = (torch.rand(2, count, generator=generator) * 2 - 1) * (1 - extent)
    extent[0] *= torch.where(flip, -1, 1)
    theta = torch.cat([torch.diag_embed(extent.T), centre.T[:, :, None]], 2)
    planes = images.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(theta.to(images.device), [count, 3, size, size], align_corners=False)
    return F.grid_sample(planes, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
