"""A LightningModule as a trial: `Report`, a callback for lightning.pytorch (or pytorch_lightning).

    def train(config):
        report = Report()
        trainer = lightning.Trainer(max_epochs=27, callbacks=[report], logger=False, enable_checkpointing=False)
        trainer.fit(LitModel(**config), datamodule=Data(), ckpt_path=report.checkpoint)

Reports each validation, with all that was logged. Its checkpoints are Lightning's own files, of
`Trainer.save_checkpoint`: weights, optimizers, schedules, precision, loops, callbacks, a stateful loader's place; and
the random states.

What is exact, and why it is done where it is. Lightning saves in `on_train_epoch_end`, or within the validation. After
either it still steps schedules that wait for a metric, and runs the module's own `on_train_epoch_end`: both are lost to
a training that goes on from there, and from within a validation the order of the data too. So the report of an epoch
waits until the next begins (`on_train_epoch_start`, or `on_train_end`), when nothing of it is left to do; the
checkpoint that is saved there says that the epoch has just ended, which is what Lightning goes on from exactly.
Validations in the middle of an epoch are reported when they end; they have a checkpoint where the loader keeps its
place (torchdata's StatefulDataLoader), and none otherwise: the trial would go on with other data.

A trial that goes on from another one's checkpoint keeps its own config: see `carried`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.integrations.carried import carried, made
from raytune_hpo.integrations.held import python_numbers
from raytune_hpo.training.random_states import get_random_states, set_random_states
from raytune_hpo.workers import reporting

try:  # the one that the user's code has imported: a callback of the other is none
    if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
        from pytorch_lightning import Callback
    else:
        from lightning.pytorch import Callback
except ImportError as error:
    text = f"raytune_hpo.integrations.lightning needs Lightning: pip install 'raytune-hpo[lightning]' ({error})"
    raise ImportError(text) from error

FILE = "lightning.ckpt"


class Report(Callback):  # type: ignore[misc]  # mypy does not follow Lightning
    """Reports a Trainer's validations, and saves its checkpoints as often as the experiment says.

    on: "validation", or "train_epoch" for a module that validates nothing: then the epochs of training are reported.
    Outside of a trial it does nothing. Raises TrialError, one line, for a Trainer that has nothing to report, and for a
    `fit` that was not given `ckpt_path=report.checkpoint`: it would train from the start again, silently.
    """

    def __init__(self, on: str = "validation") -> None:
        if on not in ("validation", "train_epoch"):
            raise TrialError(f'Report(on={on!r}): must be "validation" or "train_epoch"')
        self._on = on
        self._due: dict[str, Any] | None = None  # what the epoch's validation showed, until the epoch is over
        self._reports = 0
        self._old: dict[str, Any] = {}  # what had been logged when the last epoch was over
        self._loaded: dict[str, Any] | None = None  # the checkpoint, while Lightning restores from it
        self._made: dict[str, list[dict[str, Any]]] = {}
        self._random: Any = None
        self._within = self._saving = False
        self._fitted = False

    @property
    def checkpoint(self) -> str | None:
        """The file that the trial goes on from, for `Trainer.fit(..., ckpt_path=...)`; None where it starts afresh."""
        folder = reporting.get_checkpoint()
        if folder is None:
            return None
        if not (folder / FILE).is_file():
            raise TrialError(f"the trial's checkpoint holds no {FILE}: Report() has not written it")
        return str(folder / FILE)

    # Where a fit begins -----------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        if self._fitted and reporting.trial_id():
            raise TrialError("the trial has fitted once with this Report: a trial is one fit, and goes on from there")
        # Before all others: what they do when an epoch begins, they do again in a training that goes on from there.
        trainer.callbacks.remove(self)
        trainer.callbacks.insert(0, self)
        self._fitted = True

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint  # which Lightning reads optimizers and schedules from, once they are made

    def state_dict(self) -> dict[str, Any]:
        random = get_random_states() if self._random is None else self._random
        return {"reports": self._reports, "made": self._made, "random": random, "within": self._within}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._reports, self._made = state_dict["reports"], state_dict["made"]
        self._random, self._within = state_dict["random"], state_dict["within"]

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Optimizers and schedules are made by now, and restored next."""
        if not reporting.trial_id():
            return
        self._check(trainer)
        found = {
            "optimizer_states": [made(getattr(one, "optimizer", one)) for one in trainer.optimizers],
            "lr_schedulers": [made(config.scheduler) for config in trainer.lr_scheduler_configs],
        }
        found = python_numbers(found)
        if self._loaded is not None:
            for name, now in found.items():
                self._loaded[name] = carried(self._loaded[name], self._made.get(name, now), now)
            set_random_states(self._random)  # before the loader's next pass over the data begins
        self._made = found
        reporting.on_save(lambda folder: self._save(trainer, folder))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The loader's pass over the data has begun."""
        if self._loaded is not None and reporting.trial_id():
            loaders = _all(trainer.train_dataloader)
            if all(map(_keeps_its_place, loaders)):
                self._find_place(trainer, loaders, self._loaded["loops"]["fit_loop"]["state_dict"]["combined_loader"])
            if _in_steps(trainer) and not self._within:
                # Lightning takes the end of an epoch for its middle then: it would end it again.
                trainer.fit_loop._restarting = trainer.fit_loop.epoch_loop.restarting = False
        self._loaded = self._random = None

    def _find_place(self, trainer: Any, loaders: list[Any], states: list[Any]) -> None:
        """Of loaders with a state. Lightning restores it in the middle of an epoch, but not between two, where it holds
        the generator that orders the passes to come."""
        if not self._within:
            for loader, state in zip(loaders, states, strict=True):
                loader.load_state_dict(state)
            iter(trainer.fit_loop._data_fetcher)
        # That has begun more passes than a training that is not cut off.
        set_random_states(self._random)
        for loader in [] if self._within else loaders:
            _begin_pass(loader)

    def _check(self, trainer: Any) -> None:
        if reporting.get_checkpoint() is not None and self._loaded is None:
            raise TrialError(
                "fit() was not given the trial's checkpoint: Trainer.fit(..., ckpt_path=report.checkpoint)"
            )
        if trainer.fast_dev_run:
            raise TrialError("Trainer(fast_dev_run=True) trains a batch and saves nothing: leave it out in a trial")
        if self._on == "validation" and not trainer.enable_validation:
            wanted = 'needs a validation_step and a validation loader, or Report(on="train_epoch")'
            raise TrialError(f"the Trainer validates nothing, and Report() reports validations: it {wanted}")

    # The reports ------------------------------------------------------------------------------------

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._on != "validation" or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if trainer.is_last_batch:
            self._due = _numbers(trainer.callback_metrics)
            return
        self._within = True
        new = {name: value for name, value in trainer.callback_metrics.items() if value is not self._old.get(name)}
        self._report(trainer, _numbers(new), saves=all(map(_keeps_its_place, _all(trainer.train_dataloader))))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self._on == "train_epoch":
            self._due = {}

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._report_epoch(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._report_epoch(trainer, last=True)

    def _report_epoch(self, trainer: Any, last: bool = False) -> None:
        due, self._due = self._due, None
        if due is not None:
            self._within, self._old = False, dict(trainer.callback_metrics)
            self._report(trainer, {**due, **_numbers(self._old)}, last=last)

    def _report(self, trainer: Any, metrics: dict[str, Any], *, saves: bool = True, last: bool = False) -> None:
        if not reporting.trial_id():
            return
        self._reports += 1
        self._random = get_random_states()
        reporting.on_save((lambda folder: self._save(trainer, folder)) if saves else None)
        if saves and reporting.checkpoint_due(self._reports, last=last):
            with reporting.checkpoint_folder() as folder:
                self._save(trainer, folder)
                reporting.report(metrics, folder)
        else:
            if not saves:
                warnings.warn(
                    "validations within an epoch have no checkpoint, for the loader keeps no place (torchdata's "
                    "StatefulDataLoader does): only one that comes with an epoch's last batch has",
                    stacklevel=2,
                )
            reporting.report(metrics)
        self._random = None

    def _save(self, trainer: Any, folder: Path) -> None:
        self._saving = True
        try:
            trainer.save_checkpoint(folder / FILE)
        finally:
            self._saving = False

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """As if the epoch that is over had just ended; and in numbers that can be read back."""
        if not self._saving:
            return
        for name in ("optimizer_states", "lr_schedulers", "hyper_parameters", "datamodule_hyper_parameters"):
            if name in checkpoint:
                checkpoint[name] = python_numbers(checkpoint[name])
        if self._within:
            return
        loops = checkpoint["loops"]["fit_loop"]
        for progress in loops["epoch_progress"].values():
            done = progress["processed"]
            progress.update(ready=done, started=done, completed=done if _in_steps(trainer) else done - 1)
        checkpoint["epoch"] = trainer.fit_loop.epoch_progress.current.processed - 1
        for state in loops["state_dict"].get("combined_loader", []):
            if "_iterator_finished" in state:  # torchdata's: Lightning stops at the last batch, and never asks for more
                state["_iterator_finished"] = True


def _in_steps(trainer: Any) -> bool:
    return bool(trainer.max_steps != -1)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _all(loaders: Any) -> list[Any]:
    """The loaders of a training, which may be nested."""
    if isinstance(loaders, dict | list | tuple):
        return [
            loader for part in (loaders.values() if isinstance(loaders, dict) else loaders) for loader in _all(part)
        ]
    return [loaders]


def _keeps_its_place(loader: Any) -> bool:
    return all(callable(getattr(loader, name, None)) for name in ("state_dict", "load_state_dict"))


def _begin_pass(loader: Any) -> None:
    """What torch's loaders draw from the global generator when a pass over the data begins: their processes' seed."""
    if getattr(loader, "generator", None) is None:
        torch.empty((), dtype=torch.int64).random_()
