"""`checkpointed`: a plain training loop that can be stopped anywhere and goes on exactly.

    state = raytune_hpo.checkpointed(model=model, optimizer=optimizer, scheduler=scheduler, loader=loader)
    for epoch in state.epochs(config["epochs"]):
        train(model, loader, optimizer)
        scheduler.step()
        state.report(loss=validate(model))

`with checkpointed(...) as state:` round the loop does the same, from its first line on.

Flow: entering, which `epochs` does where it was not done, puts back what the trial's checkpoint holds, if there is one,
into the objects (a changed config is applied again, see `carried`); `epochs` begins after the epoch that was reported
last, with the random states of then; `report` saves all of it as often as the experiment's `checkpoint.every` says, and
whenever the trial is paused.

The file is `state.pt`, which `load_state` reads: one entry an object, by its name, and "checkpointed" for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from raytune_hpo.errors import TrialError
from raytune_hpo.integrations import held
from raytune_hpo.integrations.carried import carried, has_config, made
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.training.checkpoint import load_state, save_state
from raytune_hpo.training.random_states import get_random_states, set_random_states
from raytune_hpo.workers import reporting

OURS = "checkpointed"


class checkpointed:  # noqa: N801  (read as a statement: with checkpointed(...) as state)
    """What a loop holds, saved with each report and put back where the trial goes on.

    held, by name: anything with state_dict() and load_state_dict() (models, optimizers, schedules, gradient scalers,
    torchmetrics, torchdata's stateful loader); a torch DataLoader, of which the generator and the sampler's state are
    saved; generators of torch's, NumPy's and Python's; a dict or a list of plain values, changed in place. The global
    random states are saved in any case. Outside of a trial nothing is saved, so that a loop can be tried by hand.

    Raises TrialError, one line, for what has no state, for a checkpoint that does not fit, and for wrong use.
    """

    def __init__(self, **things: Any) -> None:
        for name, thing in things.items():
            held.check(name, thing)
        if OURS in things:
            raise TrialError(f"checkpointed({OURS}=...): the name is taken by what else a checkpoint holds")
        self._things = things
        self._entered = self._over = False
        self._last: int | None = None  # the epochs that the running loop has in all
        self._now: int | None = None  # the epoch whose body runs
        self._reported = False
        self._random: Mapping[str, Any] | None = None
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """The epochs up to the last that was reported: where the loop goes on from."""
        return self._epoch

    def __enter__(self) -> checkpointed:
        if self._entered:
            raise TrialError("checkpointed(...) is entered once: make another one")
        self._entered = True
        self._made = {n: held.plain(n, made(thing)) for n, thing in self._things.items() if has_config(thing)}
        start = reporting.get_checkpoint()
        if start is not None:
            self._load(start)
        reporting.on_save(self._write)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._over = True

    def epochs(self, count: int) -> Iterator[int]:
        """The epochs from the one after the last that was reported to `count` - 1, counted from 0."""
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise TrialError(f"state.epochs({count!r}): it takes how many epochs there are, at least 1")
        if not self._entered:
            self.__enter__()
        if self._over:
            raise TrialError("state.epochs() was called after its with block: the loop belongs inside")
        if self._last is not None:
            raise TrialError("state.epochs() was called twice: one loop reports one epoch after the other")
        self._last = count
        return self._loop(count)

    def _loop(self, count: int) -> Iterator[int]:
        if self._random is not None:
            set_random_states(self._random)
        for epoch in range(self._epoch, count):
            self._now, self._reported = epoch, False
            yield epoch
        self._now = None

    def report(self, metrics: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Report the epoch's metrics, by name or as a dictionary, with all that is held; once an epoch, after it."""
        if self._now is None or self._over:
            raise TrialError("state.report() belongs inside: for epoch in state.epochs(...):")
        if self._reported:
            said = "report once, with all metrics, at its end"
            raise TrialError(f"state.report() was called twice in epoch {self._now}: {said}")
        self._reported, self._epoch = True, self._now + 1
        values = {**(metrics or {}), **named}
        # On the trial's own thread: where a paused trial is saved later, the process may be another's meanwhile.
        self._random = get_random_states()
        if not reporting.checkpoint_due(self._epoch, last=self._epoch == self._last):
            reporting.report(values)
            return
        with reporting.checkpoint_folder() as folder:
            self._write(folder)
            reporting.report(values, folder)

    def _write(self, folder: Path) -> None:
        state = {name: held.state_of(name, thing) for name, thing in self._things.items()}
        random = get_random_states() if self._random is None else self._random
        ours = {"epoch": self._epoch, "random": random, "made": self._made}
        save_state({**state, OURS: ours}, folder / STATE_FILE)

    def _load(self, folder: Path) -> None:
        state = load_state(folder)
        ours = state.pop(OURS, None)
        if not isinstance(ours, dict):
            raise TrialError(f"{folder} holds no checkpoint of checkpointed(...)")
        if set(state) != set(self._things):
            raise TrialError(f"the checkpoint holds {', '.join(state)}: checkpointed({', '.join(self._things)}) now")
        for name, thing in self._things.items():
            saved = state[name]
            if name in self._made and name in ours["made"]:
                saved = carried(saved, ours["made"][name], self._made[name])
            held.put_back(name, thing, saved)
        self._epoch, self._random = ours["epoch"], ours["random"]
