"""What the rules' updates share in lanes. The rules themselves: tests/training/test_rules.py."""

from __future__ import annotations

import torch

from raytune_hpo.training.lanes.optimizers import clip

L, P = 37, 11


def test_clipping_is_torchs() -> None:
    gradient = torch.randn(L, P, dtype=torch.float64)
    largest = torch.linspace(0, 5, L, dtype=torch.float64)[:, None]
    clipped = gradient.clone()
    clip(clipped, largest)
    assert torch.equal(clipped[0], gradient[0])  # 0 is no clipping
    for i in range(1, L):
        own = torch.nn.Parameter(torch.zeros(P, dtype=torch.float64))
        own.grad = gradient[i].clone()
        torch.nn.utils.clip_grad_norm_([own], float(largest[i]))
        torch.testing.assert_close(clipped[i], own.grad, rtol=1e-12, atol=0)
