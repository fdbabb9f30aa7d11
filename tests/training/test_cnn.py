from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks import MnistCnn
from raytune_hpo.training.hyperparameters import ACTIVATIONS, CNN_HYPERPARAMETERS, INITS
from raytune_hpo.training.models import cnn
from raytune_hpo.training.random_states import preserved_random_states


@pytest.fixture(autouse=True)
def seeded() -> Any:
    with preserved_random_states():
        torch.manual_seed(0)
        yield


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("layers", [1, 2, 6])
@pytest.mark.parametrize("image", [(1, 28, 28), (3, 8, 20)])
def test_every_kernel_and_depth_fits_every_image(kernel: int, layers: int, image: tuple[int, int, int]) -> None:
    model = cnn(image, 10, {"kernel_size": kernel, "conv_layers": layers, "filters": 2})
    assert [c.out_channels for c in convolutions(model)] == [2 * 2**k for k in range(layers)]
    assert {c.kernel_size for c in convolutions(model)} == {(kernel, kernel)}
    assert model(torch.zeros(2, *image)).shape == (2, 10)


def test_each_layer_halves_the_image_and_one_pixel_is_left_alone() -> None:
    model = cnn((1, 28, 28), 10, {"conv_layers": 6, "filters": 1})
    sizes = []
    for module in model:
        module.register_forward_hook(lambda m, x, y: sizes.append(y.shape[-1]) if isinstance(m, nn.Dropout) else None)
    model(torch.zeros(1, 1, 28, 28))
    assert sizes == [14, 7, 3, 1, 1, 1]


def test_the_order_of_the_modules() -> None:
    kinds = [type(m).__name__ for m in cnn((1, 4, 4), 2, {"conv_layers": 1, "batch_norm": True, "activation": "silu"})]
    assert kinds == ["Conv2d", "BatchNorm2d", "SiLU", "MaxPool2d", "Dropout", "Flatten", "Linear"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("init", INITS)
def test_every_activation_and_init_keeps_the_signal(activation: str, init: str) -> None:
    config = {"conv_layers": 2, "filters": 16, "activation": activation, "init": init}
    model = cnn((8, 16, 16), 64, config)
    out = model(torch.randn(64, 8, 16, 16))
    floor = 0.01 if init == "default" or activation == "sigmoid" else 0.3
    assert floor < out.std().item() < 4
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert all(init == "default" or not layer.bias.any() for layer in layers)


def test_kaiming_counts_the_whole_kernel_as_inputs() -> None:
    for init in ("kaiming_uniform", "kaiming_normal"):
        weight = convolutions(cnn((50, 8, 8), 2, {"conv_layers": 1, "filters": 64, "init": init}))[0].weight
        assert weight.std().item() == pytest.approx((2 / (50 * 9)) ** 0.5, rel=0.03)


def test_the_task_has_these_hyperparameters_and_no_others() -> None:
    expected = {"kernel_size", "filters", "conv_layers", "init", "activation", "dropout", "batch_norm"}
    assert set(MnistCnn().model_hyperparameters()) == set(CNN_HYPERPARAMETERS) == expected
    assert MnistCnn().build_model({"filters": 4})(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ExperimentError, match=r"space\.kernel_size"):
        cnn((1, 28, 28), 10, {"kernel_size": 0})
