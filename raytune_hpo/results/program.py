"""model.pt2: a module as torch.export writes it, and reads it back.

What torch would execute of a stranger's file is refused before torch sees it (`program_check`).
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError, TrialError, one_line
from raytune_hpo.results.program_check import check_program

if TYPE_CHECKING:
    import torch

    from raytune_hpo.training.answering import Answering


def write_program(module: Answering, path: Path) -> tuple[str | None, tuple[str, ...]]:
    """Export a module, for any number of samples. Answers (why that cannot be, and nothing is written; None if it is),
    and the names of the inputs that it does not read."""
    import torch

    try:
        with _quiet(), torch.no_grad():
            program = _exported(module)
            unread = _unread(program, list(module.inputs.needed()))
            if unread:
                return None, unread
            if not _agree(module, program.module()):
                return "what it exports answers other outputs than the model does", ()
            torch.export.save(program, path)
            check_program(path)
    except Exception as error:  # whatever torch says of whatever a model does
        path.unlink(missing_ok=True)
        if isinstance(error, TrialError):
            return str(error), ()
        return f"torch.export cannot follow it ({_first_line(error)})", ()
    return None, ()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return said if len(said) <= 160 else said[:157] + "..."


def _exported(module: Answering) -> torch.export.ExportedProgram:
    """By the first example that the model takes; the batch of any size, and axes that are on record as such."""
    import torch

    batch = torch.export.Dim("batch", min=1)
    leaves = module.inputs.needed().values()
    free = [[axis + 1 for axis, size in enumerate(leaf.shape) if size is None] for leaf in leaves]
    shapes = tuple({0: batch, **dict.fromkeys(axes, torch.export.Dim.AUTO)} for axes in free)
    example = module.example(value=_takes(module))
    return torch.export.export(module, example, dynamic_shapes=(shapes,))


def _takes(module: Answering) -> int:
    """1, or 0 of a model that does not take ones: an embedding of one token. Raises what a model does that takes
    neither."""
    try:
        module(*module.example())
    except Exception:  # that of zeros is the one to be told
        module(*module.example(value=0))
        return 0
    return 1


def _unread(program: torch.export.ExportedProgram, names: list[str]) -> tuple[str, ...]:
    import torch

    given = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in given]
    size = torch.ops.aten.sym_size.int
    read = [any(user.target is not size for user in node.users) for node in nodes]
    if len(nodes) != len(names) or not any(read):
        return ()
    return tuple(name for name, is_read in zip(names, read, strict=True) if not is_read)


def _agree(module: Answering, program: torch.nn.Module) -> bool:
    """Whether both answer the same of three samples; a model that draws numbers answers nothing twice."""
    import torch

    from raytune_hpo.training.trees import leaves

    given = module.example(3, _takes(module))
    made = [torch.linspace(-1, 1, x.numel()).view_as(x).to(x) if x.is_floating_point() else x for x in given]
    right, again, found = (leaves(f(*made)) for f in (module, module, program))
    if not all(map(_near, right, again)):
        return True
    return len(found) == len(right) and all(map(_near, right, found))


def _near(one: Any, other: Any) -> bool:
    import torch

    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return bool(one == other)
    if one.shape != other.shape:
        return False
    return torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-5, equal_nan=True)


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Raises ExperimentError for what `write_program` has not written."""
    import torch

    check_program(path)
    try:
        with _quiet():
            return torch.export.load(path)
    except Exception as error:  # torch raises nearly anything for a damaged file
        raise ExperimentError("model", str(path), f"cannot be read: {one_line(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own complaints: what comes of them is told in a line."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def on_device(program: torch.export.ExportedProgram, device: str) -> Callable[..., Any]:
    """The program as a module there."""
    from torch.export.passes import move_to_device_pass

    moved: Callable[..., Any] = move_to_device_pass(program, device).module()
    return moved
