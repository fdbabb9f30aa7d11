"""What code inside a trial calls: report and start from a checkpoint, without importing Ray.

Under a plain Tuner of Ray Tune's the same calls are Ray's.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.seeding import derive_seed
from raytune_hpo.workers import tune_session
from raytune_hpo.workers.function_session import check_thread, running
from raytune_hpo.workers.outcomes import Met


def report(metrics: Mapping[str, Any], checkpoint: str | Path | None = None) -> None:
    """Report a trial's metrics, of an epoch or whatever its unit is; returns once the scheduler lets it go on.

    metrics: numbers, or texts, by name. checkpoint: a folder with all that the trial needs to go on from here; it is
    copied before this returns. Dictionaries, lists and arrays of up to 32 numbers become numbers by names such as
    "eval/loss" and "f1/0"; what else is no number beside the objective is left out, with a warning. "done": True ends
    the trial, once the code after it has run. Raises TrialError where nobody would hear it: in a process that the trial
    has forked, in a thread that has outlived its trial. Outside of a trial a warning, and nothing else, so that a
    function can be tried by hand.
    """
    check_thread()
    session = running()
    folder = None if checkpoint is None else Path(checkpoint)
    if session is not None:
        session.report(metrics, folder)
    elif tune_session.of_ray() is not None:
        from ray import tune

        tune.report(dict(metrics), checkpoint=None if folder is None else tune.Checkpoint.from_directory(str(folder)))
    else:
        warnings.warn("report() was called outside of a trial: nothing hears it", stacklevel=2)


def get_checkpoint() -> Path | None:
    """The folder of the checkpoint that the trial is to go on from, to be read; None where it starts afresh."""
    session = running()
    if session is not None:
        return session.checkpoint
    if tune_session.of_ray() is not None:
        from ray import tune

        found = tune.get_checkpoint()
        return None if found is None else Path(found.to_directory())
    return None


def checkpoint_epoch() -> int:
    """The epoch of `get_checkpoint`'s; 0 where there is none, and under plain Ray Tune."""
    session = running()
    return session.epoch if session is not None else 0


def checkpoint_due(epoch: int, *, last: bool = False) -> bool:
    """Whether the report of this epoch, counted from 1, is to have a checkpoint: by the experiment's
    `checkpoint.every`; that of the last epoch is, which the caller may say of another one than max_epochs. Every one
    under plain Ray Tune, none outside of a trial."""
    session = running()
    if session is None:
        return tune_session.of_ray() is not None
    place = session.place
    return last or epoch % place.checkpoint_every == 0 or epoch == place.max_epochs


def checkpoint_every() -> int:
    """Epochs between two checkpoints of the running trial; 1 outside of one, and under plain Ray Tune."""
    session = running()
    return session.place.checkpoint_every if session is not None else 1


def ends_when(over: Callable[[dict[str, Any]], bool]) -> None:
    """Ask at each report of the running trial whether it was its last, by the metrics and `training_iteration`, their
    number since the trial began. Without effect under plain Ray Tune."""
    session = running()
    if session is not None:
        session.over = over


def meet(values: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Tell, with the running trial's next report, what its code has asked for so far: as of `events.Discovered`."""
    session = running()
    if session is not None:
        session.met = Met(dict(values), dict(parameters))


def trial_id() -> str:
    """Of the running trial; empty outside of one."""
    session = running() or tune_session.of_ray()
    return "" if session is None else str(session.trial_id)


def trial_dir() -> Path:
    """The running trial's own directory, in the run directory: it keeps it when it is tried again or goes on later.

    Where a machine does not see the run directory it is a temporary one. Outside of a trial the working directory.
    """
    session = running()
    if session is not None:
        return session.directory
    ray_session = tune_session.of_ray()
    return Path.cwd() if ray_session is None else Path(ray_session.trial_dir)


def trial_seed() -> int:
    """The running trial's seed, in [0, 2**31): another one for each trial and each repetition of a config, the same
    when a trial is tried again or goes on later. Its generators (Python's, NumPy's, torch's) start from it.

    Under plain Ray Tune it comes from the trial's id; outside of a trial it is 0.
    """
    session = running()
    if session is not None:
        return session.place.seed
    ray_session = tune_session.of_ray()
    return 0 if ray_session is None else derive_seed(0, "trial", str(ray_session.trial_id))


def on_save(save: Callable[[Path], None] | None) -> None:
    """Offer to save the running trial's state at any report: save(folder) writes files into it. None: no more.

    Used where a trial is paused or interrupted at an epoch that is not its time to be checkpointed.
    Without effect under plain Ray Tune.
    """
    session = running()
    if session is not None:
        session.save = save


@contextlib.contextmanager
def checkpoint_folder() -> Iterator[Path]:
    """An empty folder to write a checkpoint into: on the run's own disk, so that it is moved, not copied."""
    session = running()
    if session is not None:
        yield session.scratch()
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def repeat_number() -> int | None:
    """Which repetition of its config the running trial is; None if it is none, and under plain Ray Tune."""
    session = running()
    return session.repeat if session is not None else None


def wants_range_test() -> bool:
    """Whether the running trial is to do a learning-rate range test, reporting `low` and `high`, and not to train."""
    session = running()
    return session is not None and session.range_test
