from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.hyperparameters import ACTIVATIONS, INITS
from raytune_hpo.training.models import hidden_sizes, mlp


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    return [m for m in model.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize(
    ("config", "outputs", "expected"),
    [
        ({"hidden_layers": 0}, 10, []),
        ({"hidden_layers": 2, "hidden_units": 7}, 10, [7, 7]),
        ({"hidden_layers": 3, "hidden_units": 1000, "shape": "funnel"}, 1, [1000, 100, 10]),
        ({"hidden_layers": 3, "hidden_units": 4, "shape": "funnel"}, 10, [4, 4, 4]),
        ({"hidden_layers": 3, "hidden_units": 9, "units_2": 5, "units_8": 1}, 2, [9, 5, 9]),
        ({"hidden_layers": 4, "units_1": 6, "units_2": 5, "units_3": 4, "units_4": 3}, 1, [6, 5, 4, 3]),
    ],
)
def test_hidden_sizes(config: dict[str, Any], outputs: int, expected: list[int]) -> None:
    assert hidden_sizes(config, outputs) == expected
    layers = linear_layers(mlp(8, outputs, config))
    assert [layer.out_features for layer in layers] == [*expected, outputs]
    assert layers[0].in_features == 8


def test_images_are_flattened() -> None:
    assert mlp((1, 6, 6), 10, {})(torch.zeros(3, 1, 6, 6)).shape == (3, 10)
    assert not isinstance(mlp(36, 10, {})[0], nn.Flatten)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("init", INITS)
def test_every_activation_and_init_keeps_the_signal(activation: str, init: str) -> None:
    torch.manual_seed(0)
    config = {"hidden_layers": 3, "hidden_units": 64, "activation": activation, "init": init}
    model = mlp(64, 64, config)
    out = model(torch.randn(256, 64))
    # PyTorch's default shrinks the signal by design, and a sigmoid squeezes any.
    floor = 0.01 if init == "default" or activation == "sigmoid" else 0.3
    assert floor < out.std().item() < 3
    assert all(init == "default" or not layer.bias.any() for layer in linear_layers(model))


def test_kaiming_has_hes_variance() -> None:
    torch.manual_seed(0)
    for init in ("kaiming_uniform", "kaiming_normal"):
        weight = linear_layers(mlp(400, 1, {"hidden_units": 400, "init": init}))[0].weight
        assert weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.02)


def test_batch_norm_and_dropout_are_where_they_should_be() -> None:
    kinds = [type(m).__name__ for m in mlp(4, 2, {"batch_norm": True, "dropout": 0.5})]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]


def test_the_names_of_the_weights_do_not_depend_on_dropout() -> None:
    names = [list(mlp(4, 2, {"dropout": rate}).state_dict()) for rate in (0.0, 0.5)]
    assert names[0] == names[1]


def test_bad_values_are_refused() -> None:
    with pytest.raises(ExperimentError, match=r"space\.activation"):
        mlp(4, 2, {"activation": "swoosh"})
