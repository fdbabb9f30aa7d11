"""Where Ray Tune's own functions find the running trial: `tune.report`, `tune.get_checkpoint`, `tune.get_context`.

Ray keeps its session in a module global; a stand-in for ours is put there as long as a trial runs: at once if Ray Tune
is imported already, otherwise when the trial's code imports it, so that a function that never does need not wait for
that. This is the only module that touches that global (no other internal of Ray Train is used);
tests/workers/test_function_session.py fails loudly when Ray moves it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.workers.when_imported import WhenImported

if TYPE_CHECKING:
    from raytune_hpo.workers.function_session import FunctionSession

MODULE = "ray.train._internal.session"


class TuneSession:
    """What Ray's public functions look for on a session."""

    # Of Ray Train's workers, which Ray Tune's functions are not.
    world_rank = world_size = node_rank = local_rank = local_world_size = run_id = metadata = dataset_shard = None

    def __init__(self, ours: FunctionSession) -> None:
        self._ours = ours
        self.trial_id = self.trial_name = ours.trial_id
        self.trial_dir = str(ours.directory)
        self.experiment_name = ours.place.experiment

    @property
    def trial_resources(self) -> Any:
        from ray import tune

        resources = self._ours.place.resources
        amounts = {"CPU": float(resources.cpus), "GPU": float(resources.gpus)}
        return tune.PlacementGroupFactory([{name: amount for name, amount in amounts.items() if amount}])

    @property
    def loaded_checkpoint(self) -> Any:
        from ray import tune

        folder = self._ours.checkpoint
        return None if folder is None else tune.Checkpoint.from_directory(str(folder))

    def report(self, metrics: dict[str, Any], checkpoint: Any = None, **_: Any) -> None:
        from raytune_hpo.workers.function_session import check_thread, running

        check_thread()
        (running() or self._ours).report(metrics, None if checkpoint is None else Path(checkpoint.path))


_offered: list[TuneSession] = []  # one, while a trial runs
_waiting = WhenImported(MODULE, lambda module: vars(module).update(_session=_offered[0] if _offered else None))


def offer(ours: FunctionSession) -> None:
    """From now on Ray's functions are answered by this trial."""
    _offered[:] = [TuneSession(ours)]
    _waiting.wait()
    _put(_offered[0])


def withdraw() -> None:
    """From now on no trial runs."""
    _offered.clear()
    _waiting.cease()
    _put(None)


def of_ray() -> Any:
    """The session of a plain Tuner whose trial runs in this process; None outside of one."""
    module = sys.modules.get(MODULE)
    return None if module is None else vars(module).get("_session")


def _put(session: TuneSession | None) -> None:
    module = sys.modules.get(MODULE)
    if module is not None:
        vars(module)["_session"] = session
