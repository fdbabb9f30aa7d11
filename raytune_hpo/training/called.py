"""A function of a model, with other weights in place of the model's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call


class Called(nn.Module):
    """A function of a module, as a module: so that its weights can be put in place of the module's."""

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *arguments: Any) -> Any:
        return self.function(self.model, *arguments)

    def with_tensors(self, tensors: Mapping[str, torch.Tensor], *arguments: Any) -> Any:
        """`function(model, *arguments)` of a model with these weights and buffers, by name, in place of its own.

        What it puts in a buffer's place is written to the tensor of that name, as if it had been changed in place.
        """
        given = {f"model.{name}": tensor for name, tensor in tensors.items()}
        found = functional_call(self, given, arguments)
        for name, tensor in tensors.items():
            now = given[f"model.{name}"]  # torch keeps there what the forward has put in place
            if now is not tensor and not tensor.requires_grad:
                tensor.copy_(now.detach())
        return found
