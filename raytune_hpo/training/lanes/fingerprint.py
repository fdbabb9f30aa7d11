"""Fingerprints: equal for modules that may share a stack of lanes.

    model -> outline: classes, tensors, ties --+
          -> reads: what its forward reads   --+--> Fingerprint

What a forward reads is found by running it (`recording`) once for each outline and each set of values that it read:
a thousand lanes of one structure cost one recorded forward, the others look up the values that it read.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from raytune_hpo.training.lanes.recording import (
    Recorded,
    Run,
    Tree,
    Values,
    all_attributes,
    always_read,
    record,
    said,
)
from raytune_hpo.training.lanes.refusals import NotFusableError
from raytune_hpo.training.lanes.value_keys import ABSENT, Hashed, class_key
from raytune_hpo.training.lanes.watching import Chain

Reads = tuple[tuple[Chain, Hashable], ...]

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


@dataclass(frozen=True)
class Fingerprint:
    """outline: classes, paths, tensors and ties. reads: what the forward reads, each with the key of its value."""

    outline: Hashed
    reads: Reads


class Prints:
    """The fingerprints of a model's modules. Reads the model, which is to be as `build_model` made it.

    run: a forward; None compares every attribute instead. by: what else the forward depends on, as functions of a task
    and a config, whose recordings are then its own. Raises NotFusableError for a forward that lanes cannot do.
    """

    def __init__(self, model: nn.Module, run: Run | None, by: Hashable = None) -> None:
        self._name = type(model).__name__
        self._model, self._tree = model, Tree.of(model)
        self._values = Values(model, self._tree)
        self._keys = self._values.keys
        self._recorded = self._recall(Hashed(self._outline("")), run, by)
        if self._recorded.refusal is not None:
            raise NotFusableError(f"{self._name}: {self._recorded.refusal}")

    @property
    def unused(self) -> frozenset[str]:
        """The trained parameters that outputs do not depend on."""
        return self._recorded.unused

    def of(self, prefix: str) -> Fingerprint | None:
        """Of the module at a path; None where it holds on to modules that are elsewhere in the model."""
        self._keys.modules_met.clear()
        self._keys.held.clear()
        reads = tuple(
            (chain, key)
            for chain, key in zip(self._recorded.reads, self._read(self._recorded), strict=True)
            if _is_within(str(chain[0]), prefix)
        )
        if self._keys.held and self._recorded.watched:
            raise NotFusableError(f"{self._name}: its forward reads {min(self._keys.held)} from a list or an object")
        if not all(_is_within(path, prefix) for path in self._keys.modules_met):
            return None
        return Fingerprint(Hashed(self._outline(prefix)), reads)

    def _outline(self, prefix: str) -> Hashable:
        parts: list[Hashable] = []
        first: dict[int, str] = {}
        inside = self._tree.modules[prefix]
        for path, module in inside.named_modules(remove_duplicate=False):
            known = first.setdefault(id(module), path)
            if known != path:
                parts.append((path, known))
                continue
            hooks = tuple((kind, self._keys.of(list(own.values()))) for kind in _HOOKS if (own := vars(module)[kind]))
            parts.append((path, class_key(type(module), self._keys), hooks))
        for name, tensor in (
            *inside.named_parameters(remove_duplicate=False),
            *inside.named_buffers(remove_duplicate=False),
        ):
            known = first.setdefault(id(tensor), name)
            parts.append((name, known) if known != name else (name, tensor.shape, tensor.dtype, tensor.requires_grad))
        return tuple(parts)

    def _read(self, recorded: Recorded) -> tuple[Hashable, ...]:
        return self._values.of(recorded.reads, whole=not recorded.watched)

    def _recall(self, outline: Hashed, run: Run | None, by: Hashable) -> Recorded:
        known = _RECORDINGS.of((outline, run is not None, by))
        for (chains, watched), by_values in known.items():
            found = by_values.get(self._values.of(chains, whole=not watched))
            if found is not None:
                return found
        found = None if run is None else record(self._model, run, self._tree)
        if found is None:
            found = Recorded((*always_read(self._tree, self._model), *all_attributes(self._tree)), watched=False)
        known.setdefault((found.reads, found.watched), {})[self._read(found)] = found
        return found


def _is_within(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(f"{prefix}.")


class _Recordings:
    """(outline, with a forward, by) -> (reads, watched) -> values -> what was recorded. Of a process, the latest."""

    most = 256

    def __init__(self) -> None:
        self._known: dict[Hashable, dict[tuple[tuple[Chain, ...], bool], dict[Hashable, Recorded]]] = {}

    def of(self, key: Hashable) -> dict[tuple[tuple[Chain, ...], bool], dict[Hashable, Recorded]]:
        if sum(len(by_values) for chains in self._known.values() for by_values in chains.values()) >= self.most:
            self._known.clear()
        return self._known.setdefault(key, {})


_RECORDINGS = _Recordings()


# Why lanes are apart ----------------------------------------------------------------------------------


def differences(prints: Sequence[Reads]) -> Iterator[str]:
    """What keeps modules of one outline apart: the first read of each two neighbours that differs, with the values."""
    differing: dict[Chain, None] = {}
    for one, other in itertools.pairwise(prints):
        theirs = dict(other)
        for chain, key in one:
            if theirs.get(chain, key) != key:
                differing.setdefault(chain)
    for chain in differing:
        found = dict.fromkeys(_text(key) for reads in prints for at, key in reads if at == chain)
        texts = [text for text in found if text is not None]
        shown = ", ".join(texts[:4]) + (", ..." if len(texts) > 4 else "")
        yield f"{said(chain)} differs{f' ({shown})' if len(texts) > 1 else ''}"


def _text(key: Hashable) -> str | None:
    """A plain value in a key, in words."""
    if key == ABSENT:
        return "none"
    if isinstance(key, tuple) and len(key) == 2 and key[0] in (str, int, float, bool, type(None)):
        return str(key[1]) if key[0] is float else repr(key[1])[:40]
    return None
