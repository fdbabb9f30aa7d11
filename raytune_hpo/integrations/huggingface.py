"""A Hugging Face Trainer as a trial: `Report`, a callback for transformers.Trainer.

    def train(config):
        report = Report()
        arguments = TrainingArguments("out", learning_rate=config["lr"], num_train_epochs=9, eval_strategy="epoch")
        trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=more, callbacks=[report])
        trainer.train(resume_from_checkpoint=report.checkpoint)

Reports each evaluation: `eval_loss`, what `compute_metrics` adds, and what has been logged since the last. The Trainer
then saves as it does (weights, optimizer, schedule, random states, its own state), as often as the experiment says; a
checkpoint that it would not have kept (`save_strategy="no"`) is the trial's alone. It goes on from there exactly, in
the middle of an epoch too, where it skips the batches that it has had. What it logs of the training loss between two
evaluations is counted anew.

A trial that goes on from another one's checkpoint keeps its own config: see `carried`. The Trainer makes an optimizer
and restores it without a callback between. So how it was made is told from its defaults: what a group of parameters
has for itself alone stays the donor's.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from raytune_hpo.errors import TrialError
from raytune_hpo.integrations.carried import carried, made
from raytune_hpo.integrations.held import python_numbers
from raytune_hpo.training.checkpoint import load_state, save_state
from raytune_hpo.workers import reporting

try:
    from transformers import TrainerCallback
except ImportError as error:
    text = f"raytune_hpo.integrations.huggingface needs transformers: pip install 'raytune-hpo[huggingface]' ({error})"
    raise ImportError(text) from error

OURS = "raytune_hpo.pt"
#: What the Trainer measures of its own speed, and says of where it is.
_ITS_OWN = ("_runtime", "_per_second", "_compilation_time", "_timer", "epoch", "total_flos", "step")


class Report(TrainerCallback):  # type: ignore[misc]  # mypy does not follow transformers
    """Reports a Trainer's evaluations, and has it save as often as the experiment says.

    on: "evaluate", or "log" for a Trainer that evaluates nothing: then what it logs is reported. Outside of a trial it
    does nothing. Raises TrialError, one line, for a Trainer that has nothing to report, and for a `train` that was not
    given `resume_from_checkpoint=report.checkpoint`: it would train from the start again, silently.
    """

    def __init__(self, on: str = "evaluate") -> None:
        if on not in ("evaluate", "log"):
            raise TrialError(f'Report(on={on!r}): must be "evaluate" or "log"')
        self._on = on
        self._training = self._due = False
        self._metrics: dict[str, Any] = {}
        self._reports = self._step = 0
        self._made: dict[str, Any] = {}
        self._per_epoch = 0.0

    @property
    def checkpoint(self) -> str | None:
        """The folder that the trial goes on from, for `Trainer.train(resume_from_checkpoint=...)`; None where it starts
        afresh."""
        folder = reporting.get_checkpoint()
        if folder is not None and not (folder / OURS).is_file():
            raise TrialError(f"the trial's checkpoint holds no {OURS}: Report() has not written it")
        return None if folder is None else str(folder)

    # Where a training begins ------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not reporting.trial_id():
            return
        self._check(args, state)
        self._training = True
        self._per_epoch = state.max_steps / args.num_train_epochs if args.max_steps <= 0 else 0.0
        optimizer, schedule = kwargs.get("optimizer"), kwargs.get("lr_scheduler")
        then = None
        if self.checkpoint is not None:
            ours = load_state(Path(self.checkpoint) / OURS)
            then, self._reports, self._step = ours["made"], ours["reports"], ours["step"]
            if ours["per_epoch"] != self._per_epoch:
                said = f"{ours['per_epoch']:g} steps an epoch, this trial {self._per_epoch:g}"
                raise TrialError(
                    f"the checkpoint is of {said}: the Trainer counts in steps, leave out of what is explored "
                    "what changes their number (per_device_train_batch_size)"
                )
        if optimizer is not None:
            self._made = _carry(optimizer, schedule, float(args.weight_decay), then)

    def _check(self, args: Any, state: Any) -> None:
        if self._on == "evaluate" and _said(args.eval_strategy) == "no":
            wanted = 'TrainingArguments(eval_strategy="epoch"), or Report(on="log")'
            raise TrialError(f"the Trainer evaluates nothing, and Report() reports evaluations: it needs {wanted}")
        if _said(args.save_strategy) == "best":
            wanted = '"no" leaves the saving to Report()'
            raise TrialError(f'save_strategy="best" saves too seldom to go on from: {wanted}')
        if self.checkpoint is not None and state.global_step == 0:
            wanted = "Trainer.train(resume_from_checkpoint=report.checkpoint)"
            raise TrialError(f"train() was not given the trial's checkpoint: {wanted}")
        output = Path(args.output_dir).resolve()
        if not output.is_relative_to(reporting.trial_dir().resolve()) and reporting.trial_id() not in str(output):
            wanted = "give a relative one: a trial works in a directory of its own"
            raise TrialError(
                f"output_dir {args.output_dir!r} is that of every trial, which overwrite each other: {wanted}"
            )

    # The reports ------------------------------------------------------------------------------------

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not self._training or "train_runtime" in (logs or {}):
            return
        self._gather(logs)
        if self._on == "log" and "loss" in logs:
            self._comes_due(state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Once for each of the Trainer's evaluation data."""
        if not self._training or state.global_step <= self._step:
            return
        self._gather(metrics)
        if self._on == "evaluate":
            self._comes_due(state, control)

    def _gather(self, values: Any) -> None:
        self._metrics.update({n: v for n, v in (values or {}).items() if not n.endswith(_ITS_OWN)})

    def _comes_due(self, state: Any, control: Any) -> None:
        if not self._due:
            self._reports += 1
        self._due, self._step = True, state.global_step
        last = state.global_step >= state.max_steps
        if reporting.checkpoint_due(self._reports, last=last):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self._due or not self._training:
            return
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            ours = {"made": self._made, "reports": self._reports, "step": self._step, "per_epoch": self._per_epoch}
            save_state(python_numbers(ours), saved / OURS)
        if _said(args.save_strategy) != "no" or not state.is_world_process_zero:
            self._report(saved)
            return
        with reporting.checkpoint_folder() as folder:
            for file in saved.iterdir():
                shutil.move(file, folder / file.name)
            saved.rmdir()
            self._report(folder)

    def _report(self, folder: Path | None = None) -> None:
        """What has come due, if anything has."""
        if self._due and self._training:
            metrics, self._metrics, self._due = self._metrics, {}, False
            reporting.report(metrics, folder)

    # What comes after an evaluation that was not saved.

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._report()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._report()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._report()
        self._training = False


def _said(strategy: Any) -> str:
    return str(getattr(strategy, "value", strategy))


def _carry(optimizer: Any, schedule: Any, decay: float, then: dict[str, Any] | None) -> dict[str, Any]:
    """Apply the config of now to an optimizer that was restored from a checkpoint. Answers how it has been made, which
    `then` is of the checkpoint's; None where nothing was restored."""
    inner = getattr(optimizer, "optimizer", optimizer)  # of accelerate's wrapper
    defaults = {n: v for n, v in inner.defaults.items() if isinstance(v, bool | int | float | tuple | type(None))}
    defaults["initial_lr"] = defaults.get("lr")
    if then is None:
        return {"defaults": defaults, "decay": decay, **made(inner)}
    groups = []
    for i, (group, before) in enumerate(zip(inner.param_groups, then["param_groups"], strict=True)):
        now = {
            name: defaults.get(name) if value == then["defaults"].get(name) else value for name, value in before.items()
        }
        # Of groups that do not decay, and of one that did not for its 0, the first is the one that is to.
        if before.get("weight_decay") == then["decay"] and (then["decay"] or i == 0):
            now["weight_decay"] = decay
        group.update({name: carried(group[name], before[name], now[name]) for name in before if name != "params"})
        groups.append(now)
    if hasattr(schedule, "base_lrs"):
        schedule.base_lrs = [group.get("initial_lr", group["lr"]) for group in inner.param_groups]
        schedule._last_lr = [group["lr"] for group in inner.param_groups]
    return {"defaults": defaults, "decay": decay, "param_groups": groups}
