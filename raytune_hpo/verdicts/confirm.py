"""confirm: train a run's best configs again from fresh seeds, and say which one is best, if that can be said.

The trials are a run of their own in RUN_DIR/confirm (`repeating`), with fresh training seeds and, where the task's
samples are exchangeable, fresh splits of training and validation data. The test split stays what it was, and is
opened once, for the first of the confirmed configs: the mean over the models of its repetitions, each at its best
epoch, which is the checkpoint that a search keeps.

The new validation samples were partly validation samples of the search: what is left of its luck in them is small,
and is in no figure. The test split is free of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raytune_hpo import checks
from raytune_hpo.ensembles.library import device
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.experiment.reopened import CodeChoice, reopened
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.owned import inside
from raytune_hpo.results.export import write_json
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.results.sealed_test import open_test, openings
from raytune_hpo.results.trial import TrialState
from raytune_hpo.results.winner import load_test_split
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.storage.run_directory import DESCRIPTION, RunDirectory
from raytune_hpo.training.task import Task
from raytune_hpo.verdicts.confirmation import CONFIRM_FILE, Confirmation, Contender, judge
from raytune_hpo.verdicts.naive import naive_value
from raytune_hpo.verdicts.repeating import (
    MAX_CONFIGS,
    MAX_SEEDS,
    begin_or_go_on,
    best_distinct,
    repeated_experiment,
    same_work,
)
from raytune_hpo.verdicts.repetitions import design_of, repeated_configs

CONFIRM = "confirm"
"""The folder within the run directory, and the purpose under which the test split is opened."""


def confirm(
    run_dir: str | Path,
    k: int = 5,
    seeds: int = 5,
    *,
    test: bool = True,
    again: bool = False,
    task: Task | FunctionTrainable | None = None,
    code: CodeChoice = "recorded",
    address: str | None = None,
    listeners: Sequence[Any] = (),
    verbose: bool = False,
    headway: Headway = UNSEEN,
) -> Confirmation | None:
    """Train the k best distinct configs of a run `seeds` times each, and judge them; None if it was interrupted.

    Killed or interrupted, the same call goes on. Finished, it answers again without training. Other configs or
    seeds begin a new one (RUN_DIR/confirm-2, ...) once the last is finished. The judgement is kept in
    RUN_DIR/confirm.json. test: open the test split for the first, once; again: also if it was opened by an
    earlier confirmation, on record. task: in place of the recorded one, for tasks defined in a prompt or a notebook.
    code: as of `resume`. headway: told of what follows the training, which listeners see.

    Raises ExperimentError, before anything is started, if the run has fewer distinct configs, is in use, or cannot be
    run here.
    """
    checks.integer("-k", k, 2, MAX_CONFIGS)
    checks.integer("--seeds", seeds, 2, MAX_SEEDS)
    directory = RunDirectory.open(run_dir)
    directory.lock()
    try:
        results = load_results(directory.path)
        trials = best_distinct(results)[:k]
        if len(trials) < k:
            expected = f"the run has {len(trials)} distinct configs with a report" + _at_most(len(trials))
            raise ExperimentError("-k", k, expected)
        with reopened(directory, {"task": task}, code=code) as taken:
            experiment = taken.say()
            configs = [t.best_config for t in trials]
            derived = repeated_experiment(experiment, configs, seeds, CONFIRM, keep_trials=None)
            folder = _folder(directory.path, derived)
            repeated = begin_or_go_on(
                folder, derived, again=taken, task=task, address=address, listeners=listeners, verbose=verbose
            )
            if repeated.status != "finished":
                return None
            headway.begin("judging the repetitions")
            made = _judge(results, repeated, trials, derived, seeds)
            if test and made.first is not None and isinstance(experiment.resolved.task, Task):
                made = _tested(directory, repeated, derived, made, made.first, again, headway)
            write_json(directory.path / CONFIRM_FILE, made.to_json())
            return made
    except OSError as error:
        raise ExperimentError("storage", error.filename or str(directory.path), str(error.strerror or error)) from error
    finally:
        directory.unlock()


def _at_most(found: int) -> str:
    return f"; -k {found} is the most" if found > 1 else ", and at least 2 are compared"


def _folder(run_path: Path, derived: Experiment) -> Path:
    """Where this work is, or is to be begun. Raises ExperimentError if other work is unfinished."""
    number = 1
    while True:
        path = run_path / (CONFIRM if number == 1 else f"{CONFIRM}-{number}")
        inside(run_path, path.name)
        if not (path / DESCRIPTION).is_file():
            return path
        recorded = RunDirectory.open(path).description()["experiment"]
        if same_work(recorded, derived):
            return path
        if load_results(path).status != "finished":
            begun = f"-k {len(recorded['start_points'])} --seeds {recorded['searcher']['repeats']}"
            expected = f"was begun with {begun} and is not finished: go on with that, or delete the folder"
            raise ExperimentError("confirm", str(path), expected)
        number += 1


def _judge(
    results: Results, repeated: Results, trials: list[TrialState], derived: Experiment, seeds: int
) -> Confirmation:
    resolved_, task = derived.resolved, derived.resolved.task
    metric, mode = resolved_.objective.metric, resolved_.objective.mode
    data = resolved_.recipe().load() if isinstance(task, Task) else None
    design, notice = design_of(resolved_, data)
    notices = [notice] if notice is not None else []
    if results.status != "finished":
        notices.append(f"the run is not finished ({results.status}): these are its best configs so far")
    if results.perturbations:
        notices.append("the search changed configs in mid-training; each is repeated as it was at its best epoch")
    return judge(
        results.run_dir,
        repeated.run_dir,
        trials,
        repeated_configs(repeated),
        metric=metric,
        mode=mode,
        seeds=seeds,
        seed=derived.seed,
        design=design,
        naive=naive_value(task, metric, data) if isinstance(task, Task) and data is not None else None,
        notices=tuple(notices),
    )


def _tested(
    directory: RunDirectory,
    repeated: Results,
    derived: Experiment,
    made: Confirmation,
    first: Contender,
    again: bool,
    headway: Headway,
) -> Confirmation:
    """Open the test split for the first, once: what was opened for the same models is answered, not opened again."""
    store = CheckpointStore(repeated.run_dir, 0)
    paths = []
    for repetition in first.repeated.repetitions:
        trial = repeated.ledger.trials[repetition.trial.id]
        trial.checkpoints = [c for c in trial.checkpoints if store.intact(c)]
        record = trial.best_checkpoint(repeated.objective)
        if record is not None:
            paths.append(f"{repeated.run_dir.name}/{record.path}")
    if len(paths) < len(first.repeated.repetitions):
        return made.tested(None, "not every repetition's checkpoint is there and whole")
    subject = {"trial": first.trial, "checkpoints": paths}
    earlier = [o for o in openings(directory.path) if o.purpose == CONFIRM]
    same = [o for o in earlier if o.subject == subject]
    finished = next((o for o in reversed(same) if o.metrics is not None), None)
    if finished is not None and not again:
        return made.tested(finished, None)
    if earlier and not same and not again:
        seen = earlier[-1]
        expected = f"it was opened for {seen.subject['trial']} on {seen.begun}; --again opens it, and records that"
        return made.tested(None, expected)

    def metrics() -> dict[str, Any]:
        return _metrics(directory, derived, first, paths, headway)

    return made.tested(open_test(directory, CONFIRM, subject, metrics, again=again), None)


def _metrics(
    directory: RunDirectory, derived: Experiment, first: Contender, paths: list[str], headway: Headway
) -> dict[str, Any]:
    """The means and deviations over the repetitions' models of their test metrics."""
    from raytune_hpo.training.checkpoint import load_state
    from raytune_hpo.training.ensemble_model import model_of
    from raytune_hpo.training.evaluation import evaluate

    task = derived.resolved.task
    assert isinstance(task, Task)
    config = task.resolved(first.repeated.config)
    headway.begin("loading the test split")
    split, of_training = load_test_split(task, derived.seed)
    headway.begin("models tested", len(paths))
    found = []
    for path in paths:
        model = model_of(task, config, load_state(directory.path / path))
        found.append(evaluate(model.to(device()), split, task, config=config, statistics=of_training))
        headway.made()
    metrics: dict[str, Any] = {"models": len(found), "samples": len(split)}
    for name in found[0]:
        values = [f[name] for f in found]
        metrics[f"test_{name}"] = statistics.fmean(values)
        metrics[f"test_{name}_std"] = statistics.stdev(values)
    return metrics
