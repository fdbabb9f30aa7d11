"""Multi-layer perceptrons and small CNNs from a config. Shapes: [n, *inputs] -> [n, outputs]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from raytune_hpo.training.hyperparameters import CNN_HYPERPARAMETERS, MLP_HYPERPARAMETERS, resolve

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "linear": nn.Identity,
}

# The gain that keeps a signal's variance through the activation; the smooth relatives of ReLU pass
# about as much variance as ReLU itself (torch has no gain for them).
_GAINS = {
    "relu": math.sqrt(2.0),
    "leaky_relu": nn.init.calculate_gain("leaky_relu", 0.01),
    "tanh": 5.0 / 3.0,
    "elu": math.sqrt(2.0),
    "gelu": math.sqrt(2.0),
    "silu": math.sqrt(2.0),
}


def hidden_sizes(config: Mapping[str, Any], outputs: int) -> list[int]:
    """Units of each hidden layer: the shape's, with `units_k` put in for layer k (counted from 1).

    A funnel goes geometrically from `hidden_units` towards `outputs`, which would be the next term;
    a network that starts no wider than its outputs stays equal.
    """
    c = resolve(config, MLP_HYPERPARAMETERS)
    layers, first = c["hidden_layers"], c["hidden_units"]
    sizes = [first] * layers
    if c["shape"] == "funnel" and outputs < first:
        sizes = [max(1, round(first * (outputs / first) ** (i / layers))) for i in range(layers)]
    return [c.get(f"units_{k}") or size for k, size in enumerate(sizes, start=1)]


def mlp(inputs: int | Sequence[int], outputs: int, config: Mapping[str, Any]) -> nn.Sequential:
    """Linear [-> batch norm] -> activation -> dropout per hidden layer, then a linear layer.

    `inputs` is the number of features or the shape of one sample, flattened first when it has
    several axes. `config` is read by MLP_HYPERPARAMETERS; its other keys are ignored. The weights
    come from torch's global generator. Raises ExperimentError for an illegal value.
    """
    c = resolve(config, MLP_HYPERPARAMETERS)
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    modules: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
    width = math.prod(shape)
    for units in hidden_sizes(c, outputs):
        modules.append(_initialised(nn.Linear(width, units), c["init"], c["activation"]))
        if c["batch_norm"]:
            modules.append(nn.BatchNorm1d(units))
        modules.append(ACTIVATION_MODULES[c["activation"]]())
        # Also at 0, where it does nothing: the names of the weights then do not depend on dropout,
        # and a population-based scheduler may change it between two epochs.
        modules.append(nn.Dropout(c["dropout"]))
        width = units
    modules.append(_initialised(nn.Linear(width, outputs), c["init"], "linear"))
    return nn.Sequential(*modules)


def cnn(inputs: Sequence[int], outputs: int, config: Mapping[str, Any]) -> nn.Sequential:
    """Convolution [-> batch norm] -> activation -> max-pooling by 2 -> dropout, repeated, then a linear layer.

    inputs: channels, height and width of one sample. An image of one pixel's height or width is no longer pooled.
    `config` is read by CNN_HYPERPARAMETERS; its other keys are ignored. The weights come from torch's global
    generator. Raises ExperimentError for an illegal value.
    """
    c = resolve(config, CNN_HYPERPARAMETERS)
    channels, height, width = inputs
    kernel = c["kernel_size"]
    modules: list[nn.Module] = []
    for layer in range(c["conv_layers"]):
        filters = c["filters"] * 2**layer
        # An odd kernel keeps the image's size, an even one adds a pixel.
        convolution = nn.Conv2d(channels, filters, kernel, padding=kernel // 2)
        modules.append(_initialised(convolution, c["init"], c["activation"]))
        grown = 2 * (kernel // 2) - kernel + 1
        height, width, channels = height + grown, width + grown, filters
        if c["batch_norm"]:
            modules.append(nn.BatchNorm2d(filters))
        modules.append(ACTIVATION_MODULES[c["activation"]]())
        if min(height, width) > 1:
            modules.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        modules.append(nn.Dropout(c["dropout"]))
    return nn.Sequential(
        *modules, nn.Flatten(), _initialised(nn.Linear(channels * height * width, outputs), c["init"], "linear")
    )


Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def _initialised(layer: Layer, init: str, activation: str) -> Layer:
    """The layer with its weights drawn by `init`; every init but the default starts the bias at zero."""
    if init == "default":
        return layer
    gain = _GAINS.get(activation, 1.0)
    inputs = layer.weight[0].numel()  # that one output sums: of a convolution channels * kernel height * width
    match init:
        case "xavier_uniform":
            nn.init.xavier_uniform_(layer.weight, gain)
        case "xavier_normal":
            nn.init.xavier_normal_(layer.weight, gain)
        case "kaiming_uniform":  # He et al. 2015: variance gain^2 / inputs
            bound = gain * math.sqrt(3.0 / inputs)
            nn.init.uniform_(layer.weight, -bound, bound)
        case "kaiming_normal":
            nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(inputs))
        case "orthogonal":
            nn.init.orthogonal_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
