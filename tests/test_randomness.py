"""What a thread draws from generators of its own is what it would draw alone from the global one."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from tsdlab.models.build import build_detector
from tsdlab.presets import PRESETS
from tsdlab.randomness import drawing_from

IMAGE = torch.arange(3 * 40 * 40, dtype=torch.float32).reshape(3, 40, 40) / 4800

DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(5),
    "device": lambda: torch.rand(5, device="cpu"),
    "randn": lambda: torch.randn(2, 3),
    "randint": lambda: torch.randint(0, 1000, (5,)),
    "randperm": lambda: torch.randperm(20),
    "normal": lambda: torch.normal(torch.zeros(4), 2.0),
    "bernoulli": lambda: torch.bernoulli(torch.full((20,), 0.5)),
    "multinomial": lambda: torch.multinomial(torch.ones(10), 4),
    "rand_like": lambda: torch.rand_like(torch.zeros(4, dtype=torch.float64)),
    "randn_like": lambda: torch.randn_like(torch.zeros(4, 2), dtype=torch.float64),
    "uniform_": lambda: torch.empty(5).uniform_(1, 2),
    "normal_": lambda: torch.empty(5).normal_(),
    "exponential_": lambda: torch.empty(5).exponential_(),
    "random_": lambda: torch.empty(5).random_(),
    "linear": lambda: nn.Linear(4, 4).weight.detach(),
    "xavier": lambda: nn.init.xavier_normal_(torch.empty(4, 4)),
    "trunc_normal": lambda: nn.init.trunc_normal_(torch.empty(4, 4)),
    "jitter": lambda: v2.ColorJitter(0.3, 0.3, 0.3, 0.1)(IMAGE),
    "noise": lambda: v2.GaussianNoise()(IMAGE),
    "crop": lambda: v2.RandomResizedCrop(20)(IMAGE),
    "augment": lambda: v2.RandAugment()((IMAGE * 255).byte()),
    "erase": lambda: v2.RandomErasing(1)(IMAGE),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_numbers_are_those_of_the_global_generator_which_stays_as_it_is(name: str) -> None:
    torch.manual_seed(3)
    expected = DRAWS[name]()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    own = drawing_from({"cpu": torch.Generator().manual_seed(3)})
    with own:
        first = DRAWS[name]()
    with own:
        second = DRAWS[name]()
    assert torch.equal(first, expected) and first.dtype == expected.dtype
    assert not torch.equal(second, first)  # it goes on, and does not start again
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("preset", ["badges-tiny", "bccd"])
def test_a_model_gets_the_same_weights(preset: str) -> None:
    torch.manual_seed(7)
    expected = build_detector(PRESETS[preset]).state_dict()
    before = torch.get_rng_state()
    with drawing_from({"cpu": torch.Generator().manual_seed(7)}):
        found = build_detector(PRESETS[preset]).state_dict()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert torch.equal(torch.get_rng_state(), before)


def test_an_own_generator_is_kept_and_other_threads_are_left_alone() -> None:
    mine = torch.Generator().manual_seed(1)
    elsewhere: list[Tensor] = []
    torch.manual_seed(9)
    with drawing_from({"cpu": torch.Generator().manual_seed(2)}):
        assert torch.equal(torch.rand(3, generator=mine), torch.rand(3, generator=torch.Generator().manual_seed(1)))
        thread = threading.Thread(target=lambda: elsewhere.append(torch.rand(3)))
        thread.start()
        thread.join()
    assert torch.equal(elsewhere[0], torch.rand(3, generator=torch.Generator().manual_seed(9)))
