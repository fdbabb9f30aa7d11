"""Where Ray Tune's own functions find the running trial: `tune.report`, `tune.get_checkpoint`, `tune.get_context`.

Ray keeps its session in a module global; a stand-in for ours is put there as long as a trial runs: at once if Ray Tune
is imported already, otherwise when the trial's code imports it, so that a function that never does need not wait for
that. This is the only module that touches that global (no other internal of Ray Train is used);
tests/workers/test_function_session.py fails loudly when Ray moves it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raytune_hpo.workers.function_session import FunctionSession

MODULE = "ray.train._internal.session"


class TuneSession:
    """What Ray's public functions look for on a session."""

    world_rank = None
    trial_resources = None
    experiment_name = "raytune_hpo"

    def __init__(self, ours: FunctionSession) -> None:
        self._ours = ours
        self.trial_id = self.trial_name = ours.trial_id
        self.trial_dir = str(Path.cwd())

    @property
    def loaded_checkpoint(self) -> Any:
        from ray import tune

        folder = self._ours.checkpoint
        return None if folder is None else tune.Checkpoint.from_directory(str(folder))

    def report(self, metrics: dict[str, Any], checkpoint: Any = None, **_: Any) -> None:
        from raytune_hpo.workers.function_session import running

        (running() or self._ours).report(metrics, None if checkpoint is None else Path(checkpoint.path))


class _WhenImported(MetaPathFinder, Loader):
    """Puts a session into Ray's module when that is imported."""

    def __init__(self) -> None:
        self.session: TuneSession | None = None
        self._loader: Any = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        vars(module)["_session"] = self.session


_waiting = _WhenImported()


def offer(ours: FunctionSession) -> None:
    """From now on Ray's functions are answered by this trial."""
    session = TuneSession(ours)
    _waiting.session = session
    if _waiting not in sys.meta_path:
        sys.meta_path.insert(0, _waiting)
    _put(session)


def withdraw() -> None:
    """From now on no trial runs."""
    _waiting.session = None
    if _waiting in sys.meta_path:
        sys.meta_path.remove(_waiting)
    _put(None)


def of_ray() -> Any:
    """The session of a plain Tuner whose trial runs in this process; None outside of one."""
    module = sys.modules.get(MODULE)
    return None if module is None else vars(module).get("_session")


def _put(session: TuneSession | None) -> None:
    module = sys.modules.get(MODULE)
    if module is not None:
        vars(module)["_session"] = session
