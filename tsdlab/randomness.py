"""Random numbers of a thread's own: what it draws depends on no other thread, and changes nothing for others.

torch's functions draw from one generator of the whole process by default. In a notebook, a training in one thread would
then share it with whatever the other cells draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Everything of torch that takes a generator: functions, methods that fill a tensor, initializers of layers.
_TAKE_A_GENERATOR = {
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.multinomial),
    *(torch.poisson, torch.binomial),
    *(Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_, Tensor.bernoulli, Tensor.exponential_),
    *(Tensor.geometric_, Tensor.cauchy_, Tensor.log_normal_, Tensor.multinomial),
    *(nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_),
}
# torch 2.9 has no generator for these.
_LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}


class drawing_from(TorchFunctionMode):
    """Inside the block, torch's functions called by this thread draw from `generators`, not from the global ones.

    Not covered: dropout, whose functions take no generator.

    Args:
        generators: by type of device, such as "cpu".
    """

    def __init__(self, generators: Mapping[str, torch.Generator]) -> None:
        super().__init__()
        self._generators = generators

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _LIKE:
            like: Tensor = args[0] if args else kwargs.pop("input")
            kwargs = {"dtype": like.dtype, "device": like.device, **kwargs}
            kwargs.pop("memory_format", None)
            func, args = _LIKE[func], (like.shape,)
        if func in _TAKE_A_GENERATOR and kwargs.get("generator") is None:
            generator = self._generators.get(_device_type(args, kwargs))
            if generator is not None:
                kwargs["generator"] = generator
        return func(*args, **kwargs)


def _device_type(args: tuple, kwargs: dict[str, Any]) -> str:
    """Where a random function draws."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]).type
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    return tensors[0].device.type if tensors else torch.get_default_device().type
