"""nn.LSTM, nn.GRU and nn.RNN of many lanes, with dropout from each lane's own generator: torch's own have no vmap rule.

Their recurrence step by step, for all lanes at once: an autograd.Function with a vmap rule sees all lanes' values. A
step is one matrix product a lane, batched. L: lanes, T: steps, N: samples, H: hidden units, G: gates times H.
Formulas and the order of the gates: torch.nn.LSTM's and torch.nn.GRU's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from raytune_hpo.training.lanes.layers import LaneView, Tensor, dropout_scales

State = tuple[Tensor, ...]  # h, of an LSTM c as well; [L, N, H] each


class _OfLanes(nn.RNNBase):
    """Takes the place of a module of torch's by being made its class: weights and settings stay where they are."""

    lanes: Sequence[LaneView]

    def forward(self, input: Any, hx: Any = None) -> Any:
        if not isinstance(input, Tensor):
            raise TypeError("packed sequences are of several lengths")
        alone = input.dim() == 2
        start = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
        if alone:
            input, start = input.unsqueeze(0 if self.batch_first else 1), tuple(h.unsqueeze(1) for h in start)
        weights = [getattr(self, name) for name in self._flat_weights_names]
        out, *last = _SteppingOut.apply(self, len(start), input, *start, *weights)
        if alone:
            out, last = out.squeeze(0 if self.batch_first else 1), [h.squeeze(1) for h in last]
        return out, last[0] if len(last) == 1 else tuple(last)


class _LSTMOfLanes(_OfLanes, nn.LSTM):
    pass


class _GRUOfLanes(_OfLanes, nn.GRU):
    pass


class _RNNOfLanes(_OfLanes, nn.RNN):
    pass


#: The class that a module of torch's becomes to run under a vmap over lanes.
OF_LANES: dict[type[nn.Module], type[_OfLanes]] = {nn.LSTM: _LSTMOfLanes, nn.GRU: _GRUOfLanes, nn.RNN: _RNNOfLanes}


class _SteppingOut(torch.autograd.Function):
    @staticmethod
    def forward(module: _OfLanes, states: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        raise AssertionError("only called under vmap, where the rule below stands for it")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], module: _OfLanes, states: int, *tensors: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        own = [
            t.expand(info.batch_size, *t.shape) if axis is None else t.movedim(axis, 0)
            for t, axis in zip(tensors, in_dims[2:], strict=True)
        ]
        found = _run(module, own[0], own[1 : 1 + states], own[1 + states :])
        return found, (0,) * len(found)


def _run(module: _OfLanes, x: Tensor, start: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """x: [L, T, N, in] or [L, N, T, in]; start: [L, layers * directions, N, H] each. Answers as torch does, with L."""
    if module.batch_first:
        x = x.transpose(1, 2)
    directions = 2 if module.bidirectional else 1
    of_one = len(weights) // (module.num_layers * directions)
    last: list[State] = []
    for layer in range(module.num_layers):
        if layer and module.training and module.dropout > 0:
            rates = [LaneView({"": module.dropout}, lane.generator, {}) for lane in module.lanes]
            x = x * dropout_scales(x, rates, "")
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            own = weights[at * of_one : (at + 1) * of_one]
            state = tuple(h[:, at] for h in start) or None
            out, after = _direction(module, x.flip(1) if direction else x, state, own)
            outputs.append(out.flip(1) if direction else out)
            last.append(after)
        x = torch.cat(outputs, -1) if directions > 1 else outputs[0]
    return x.transpose(1, 2) if module.batch_first else x, *(torch.stack(h, 1) for h in zip(*last, strict=True))


def _direction(module: _OfLanes, x: Tensor, state: State | None, weights: Sequence[Tensor]) -> tuple[Tensor, State]:
    """One way through x, [L, T, N, in] -> [L, T, N, H], and the state after it."""
    L, T, N, _ = x.shape
    from_input, from_state = weights[0].transpose(1, 2), weights[1].transpose(1, 2)
    biases = weights[2:4] if module.bias else [x.new_zeros(L, from_input.shape[-1])] * 2
    projection = weights[-1].transpose(1, 2) if module.proj_size else None
    gru = isinstance(module, nn.GRU)
    # A GRU's new gate takes the state's bias by itself.
    bias = biases[0] if gru else biases[0] + biases[1]
    inputs = torch.baddbmm(bias[:, None], x.flatten(1, 2), from_input).view(L, T, N, -1).unbind(1)
    if state is None:
        H = module.hidden_size
        state = (x.new_zeros(L, N, module.proj_size or H), *([x.new_zeros(L, N, H)] * isinstance(module, nn.LSTM)))
    step = _lstm if isinstance(module, nn.LSTM) else _gru if gru else _plain(module)
    outputs = []
    for ahead in inputs:
        state = step(ahead, state, from_state, biases[1])
        if projection is not None:
            state = torch.bmm(state[0], projection), *state[1:]
        outputs.append(state[0])
    return torch.stack(outputs, 1), state


def _lstm(ahead: Tensor, state: State, from_state: Tensor, _: Tensor) -> State:
    h, c = state
    i, f, g, o = torch.baddbmm(ahead, h, from_state).chunk(4, -1)
    c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
    return o.sigmoid() * c.tanh(), c


def _gru(ahead: Tensor, state: State, from_state: Tensor, bias: Tensor) -> State:
    (h,) = state
    r, z, n = ahead.chunk(3, -1)
    from_r, from_z, from_n = torch.baddbmm(bias[:, None], h, from_state).chunk(3, -1)
    new = torch.addcmul(n, (r + from_r).sigmoid(), from_n).tanh()
    return (torch.addcmul(new, (z + from_z).sigmoid(), h - new),)


def _plain(module: _OfLanes) -> Callable[[Tensor, State, Tensor, Tensor], State]:
    activation = torch.tanh if getattr(module, "nonlinearity", "tanh") == "tanh" else torch.relu

    def step(ahead: Tensor, state: State, from_state: Tensor, _: Tensor) -> State:
        return (activation(torch.baddbmm(ahead, state[0], from_state)),)

    return step
