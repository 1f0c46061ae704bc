"""RoIs over a small map that each need another case of the pooling, and how far two results are apart."""

import torch

AWKWARD = [
    [0, 3.0, 4.0, 40.0, 37.0],
    [1, -20.0, -9.0, 15.0, 12.0],  # hangs over the corner
    [0, 500.0, 500.0, 600.0, 600.0],  # outside
    [1, 10.0, 10.0, 10.0, 10.0],  # empty
    [0, 30.0, 30.0, 20.0, 25.0],  # inside out
    [1, 0.0, 0.0, 67.0, 51.0],  # everything
]


def make_features(dtype=torch.float32, images=2, channels=5, height=13, width=17):
    return torch.randn(images, channels, height, width, dtype=dtype)


def relative_error(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6)).item()
