"""Which values a model's forward reads: it is run, on a copy whose classes and containers note what is asked of them.

A read is a chain from a module to a value: ("block", ("attr", "config"), ("item", "scale")). A model of the same
classes and shapes for which all reads lead to the same values runs the same way, so it reads nothing else: what tracing
compilers call guards (Ansel et al. 2024, PyTorch 2). Not seen is what a forward would read for more samples alone.
"""

from __future__ import annotations

import contextlib
import copy
import random
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from raytune_hpo.training.lanes.value_keys import ABSENT, Keys, cells_of, class_data, local_functions, tensor_key
from raytune_hpo.training.lanes.watching import Chain, Recorder, Step, plain_names
from raytune_hpo.training.random_states import preserved_random_states

#: A forward of two samples or so, in the mode that the model is in: what the loss is made of.
Run = Callable[[nn.Module], Any]


@dataclass(frozen=True)
class Tree:
    """A model's modules by path, each once, and their classes: of a copy that records, those of the original."""

    modules: Mapping[str, nn.Module]
    kinds: Mapping[str, type[nn.Module]]

    @classmethod
    def of(cls, model: nn.Module, kinds: Mapping[str, type[nn.Module]] | None = None) -> Tree:
        modules = dict(model.named_modules())
        return cls(modules, kinds or {path: type(module) for path, module in modules.items()})


@dataclass(frozen=True)
class Recorded:
    """reads: in the order of the first run. unused: trained parameters that the outputs do not depend on.
    refusal: what of this forward lanes cannot do. watched: False where it could not be run so, and all is read."""

    reads: tuple[Chain, ...]
    unused: frozenset[str] = frozenset()
    refusal: str | None = None
    watched: bool = True


def all_attributes(tree: Tree) -> tuple[Chain, ...]:
    """Every plain attribute of every module, for where reads cannot be recorded."""
    return tuple(
        (path, step)
        for path, module in tree.modules.items()
        for step in (("names",), *(("attr", name) for name in plain_names(module, tree.kinds[path])))
    )


def always_read(tree: Tree, model: nn.Module) -> tuple[Chain, ...]:
    """What is taken to be read by every forward: closures of local classes' methods, buffers that no state holds."""
    closures = (
        (path, ("method", number, name), ("cell", variable))
        for path, kind in tree.kinds.items()
        for number, (name, function) in enumerate(local_functions(kind))
        for variable, _ in cells_of(function)
    )
    buffers = (name.rpartition(".") for name, _ in own_constants(model))
    return (*closures, *((path, ("buffer", name)) for path, _, name in buffers))


class Values:
    """What chains lead to in a model, as keys. whole: of containers too, whose reads are then not in other chains."""

    def __init__(self, model: nn.Module, tree: Tree) -> None:
        self._tree = tree
        tensors = {id(t): name for name, t in (*model.named_parameters(), *model.named_buffers())}
        self.keys = Keys({id(module): path for path, module in tree.modules.items()}, tensors)

    def of(self, chains: Iterable[Chain], *, whole: bool = False) -> tuple[Hashable, ...]:
        return tuple(self._at(chain, whole) for chain in chains)

    def _at(self, chain: Chain, whole: bool) -> Hashable:
        """ABSENT where the chain leads nowhere."""
        path, steps = _parts(chain)
        module = found = self._tree.modules[path]
        try:
            for step in steps:
                found = _after(found, self._tree.kinds[path] if found is module else type(found), step)
        except (LookupError, AttributeError, TypeError):
            return ABSENT
        if isinstance(found, torch.Tensor) and steps[-1][0] == "buffer":
            return tensor_key(found)
        return self.keys.of(found, recorded=not whole)


def _parts(chain: Chain) -> tuple[str, list[Step]]:
    path, *steps = chain
    return str(path), [step for step in steps if isinstance(step, tuple)]


def _after(found: Any, kind: type, step: Step) -> Any:  # noqa: PLR0911
    match step:
        case "attr", str(name):
            own = vars(found)
            return own[name] if name in own else class_data(kind, name)
        case "buffer", str(name):
            return found._buffers[name]
        case "item", key:
            return dict.__getitem__(found, key) if isinstance(found, dict) else found[key]
        case ("keys",):
            return list(dict.__iter__(found)) if isinstance(found, dict) else list(found)
        case ("names",):
            return plain_names(found, kind) if isinstance(found, nn.Module) else list(vars(found))
        case "method", int(number), _:
            return list(local_functions(kind))[number][1]
        case "cell", str(name):
            return dict(cells_of(found))[name]
    raise LookupError(step)


def record(model: nn.Module, run: Run, tree: Tree) -> Recorded | None:
    """What a forward of the model reads, in training and in evaluation; None where it raises, or cannot be watched.

    The model, its buffers and the random states are left as they were found.
    """
    with warnings.catch_warnings(), preserved_random_states():
        warnings.simplefilter("ignore")  # training will say them
        try:
            return _recorded(model, copied(model, lambda tensor: tensor.detach().clone()), run, tree)
        except Exception:  # the user's own code; if it fails in training too, it is reported there
            return None


def _recorded(original_model: nn.Module, model: nn.Module, run: Run, original: Tree) -> Recorded:
    own, recorder = Tree.of(model, original.kinds), Recorder()
    constants = dict(own_constants(model))
    before = {n: b.clone() for n, b in constants.items()}
    with recorder.watching(own.modules, own.kinds):
        before_it = _other_generators()
        with _all_trained(original_model):
            unused, held = _unused(model, original_model, recorder.passed(run, model.train()))
        with torch.no_grad():
            recorder.passed(run, model.eval())
        draws = _other_generators() != before_it
        reads, values = list(recorder.reads), Values(model, own)
        settled = values.of(reads)  # what a first forward makes for those that follow is no change
        recorder.passed(run, model.train())
        changed = next(
            (c for c, one, other in zip(reads, settled, values.of(reads), strict=True) if one != other), None
        )
    refusal = None
    written = next((n for n, b in own_constants(model) if not torch.equal(b, before.get(n, b))), None)
    written = written or next((n for n, b in constants.items() if not torch.equal(b, before[n])), None)
    if held is not None:
        refusal = f"a function that its forward calls holds on to {held}, which lanes replace"
    elif changed is not None:
        refusal = f"its forward changes {said(changed)}, which its state does not hold"
    elif written is not None:
        refusal = f"its forward changes its buffer {written!r}, which its state does not hold"
    elif draws:
        refusal = "its forward draws from Python's or NumPy's generator: lanes have torch's alone"
    return Recorded((*always_read(original, model), *recorder.reads), unused, refusal)


def _other_generators() -> tuple[Any, ...]:
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    return random.getstate(), state["state"]["key"].tobytes(), state["state"]["pos"]


@contextlib.contextmanager
def _all_trained(model: nn.Module) -> Iterator[None]:
    """Let gradients tell whether a forward uses any of the model's parameters."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_()
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _unused(model: nn.Module, original: nn.Module, outputs: Any) -> tuple[frozenset[str], str | None]:
    """(trained parameters of the copy `model` that outputs do not depend on, one of the original's that they do
    depend on: a function's closure and defaults are not copied)."""
    own = {n: p for n, p in model.named_parameters() if p.requires_grad}
    others = {n: p for n, p in original.named_parameters() if p.requires_grad}
    sums = [t.real.double().sum() for t in _tensors_in(outputs) if t.requires_grad]
    if not sums:
        return frozenset(), None
    found = torch.autograd.grad(torch.stack(sums).sum(), [*own.values(), *others.values()], allow_unused=True)
    unused = frozenset(name for name, gradient in zip(own, found, strict=False) if gradient is None)
    return unused, next((n for n, g in zip(others, found[len(own) :], strict=True) if g is not None), None)


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors_in(item)
    elif isinstance(value, Mapping):
        yield from _tensors_in(list(value.values()))


def own_constants(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """The buffers that are in no state, each by the one name that torch gives it."""
    if not any(module._non_persistent_buffers_set for module in model.modules()):
        return []
    kept = {
        id(buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if name not in module._non_persistent_buffers_set
    }
    return [(name, buffer) for name, buffer in model.named_buffers() if id(buffer) not in kept]


def copied(model: nn.Module, tensor: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """A deep copy with each parameter, buffer and tensor of a graph as `tensor` makes it."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(tensor(parameter), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = tensor(buffer)
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:  # which torch refuses to copy
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def said(chain: Chain) -> str:
    """A chain in words: "its attribute 'block.config['scale']'"."""
    text, steps = _parts(chain)
    words = "attribute"
    for step in steps:
        match step:
            case "attr" | "buffer" as kind, name:
                words = "buffer" if kind == "buffer" else words
                text = f"{text}.{name}" if text else str(name)
            case "item", key:
                text += f"[{key!r}]"
            case "method", _, name:
                text = f"{text}.{name}" if text else str(name)
            case "cell", name:
                words, text = "variable", f"{text}: {name}"
    return f"its {words} '{text}'"
