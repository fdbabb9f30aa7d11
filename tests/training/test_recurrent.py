"""training/recurrent.py: torch's kernels of a GPU's time step, written out; dropout from counters without cuDNN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lane_device import DEVICE
from torch import nn

from raytune_hpo.training.counted_draws import counted
from raytune_hpo.training.recurrent import let_vmap_run_recurrent_layers

LANES, SAMPLES, INPUT, HIDDEN = 3, 4, 5, 6


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell])
def test_a_time_step_as_a_gpu_asks_for_it(kind: type[nn.RNNCellBase], bias: bool) -> None:
    let_vmap_run_recurrent_layers()
    torch.manual_seed(0)
    cells = [kind(INPUT, HIDDEN, bias=bias).double() for _ in range(LANES)]  # type: ignore[call-arg, arg-type]
    weights, _ = torch.func.stack_module_state(cells)  # type: ignore[arg-type]
    x, h, c = (torch.randn(LANES, SAMPLES, n, dtype=torch.float64) for n in (INPUT, HIDDEN, HIDDEN))
    last = h if kind is nn.GRUCell else c
    fused = torch.ops.aten._thnn_fused_gru_cell if kind is nn.GRUCell else torch.ops.aten._thnn_fused_lstm_cell

    def one(own: dict[str, torch.Tensor], x: torch.Tensor, h: torch.Tensor, last: torch.Tensor) -> Any:
        biases = (own["bias_ih"], own["bias_hh"]) if bias else (None, None)
        return fused(x @ own["weight_ih"].T, h @ own["weight_hh"].T, last, *biases)[: 1 if kind is nn.GRUCell else 2]

    together = torch.func.vmap(one)(weights, x, h, last)
    sum(out.square().sum() for out in together).backward()
    for lane, cell in enumerate(cells):
        alone = cell(x[lane], h[lane] if kind is nn.GRUCell else (h[lane], c[lane]))
        alone = (alone,) if kind is nn.GRUCell else alone
        torch.testing.assert_close(tuple(out[lane] for out in together), tuple(alone), rtol=1e-12, atol=1e-12)
        sum(out.square().sum() for out in alone).backward()
        for name, weight in cell.named_parameters():
            torch.testing.assert_close(weights[name].grad[lane], weight.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, lambda *a, **o: nn.RNN(*a, nonlinearity="relu", **o)])
def test_dropout_between_layers_is_drawn_from_counters(kind: Callable[..., nn.RNNBase], packed: bool) -> None:
    """cuDNN draws it within, from the device's own generator."""
    torch.manual_seed(0)
    layer = kind(INPUT, HIDDEN, num_layers=2, dropout=0.4).to(DEVICE)
    x: Any = torch.randn(7, SAMPLES, INPUT, device=DEVICE)
    x = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([7, 5, 5, 2])) if packed else x

    def passed(step: int) -> torch.Tensor:
        with counted(11, step):
            out = layer(x)[0]
        out = out.data if packed else out
        if layer.training:
            layer.zero_grad()
            out.sum().backward()
            assert layer.weight_ih_l0.grad.isfinite().all()
        return out.detach()

    assert torch.equal(passed(1), passed(1))
    assert not torch.equal(passed(1), passed(2))
    layer.eval()
    assert torch.equal(passed(1), passed(2))
