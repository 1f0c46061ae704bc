"""What the tests of plots share."""

from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from tsdlab.models.build import build_detector
from tsdlab.models.probe import trace
from tsdlab.presets import PRESETS

matplotlib.use("Agg")


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    figure.canvas.draw()  # whatever was drawn can be rendered
    plt.close(figure)


@pytest.fixture(scope="module")
def traced():
    """An image, and what an untrained TSD answers to one proposal of 70 × 70 pixels."""
    torch.manual_seed(0)
    model = build_detector(replace(PRESETS["badges-tiny"], head="tsd"))
    for name, parameter in model.named_parameters():
        if "offset" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    image = torch.rand(3, 128, 128)
    return image, trace(model, image, torch.tensor([[20.0, 30.0, 90.0, 100.0]]))
