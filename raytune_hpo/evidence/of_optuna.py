"""The trials of an Optuna study, from whatever storage Optuna reads."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.evidence.records import Record, Records, unreadable
from raytune_hpo.objective import Objective


def read(place: str, source: str, objective: Objective, names: Collection[str] = ()) -> Records:
    """place: URL#STUDY, or the path of an Optuna journal in place of the URL. Intermediate values are epochs, their
    first step 0 or 1; a study's value is whatever its objective has returned, and no metric by name."""
    if importlib.util.find_spec("optuna") is None:
        raise ExperimentError("--from", source, 'needs Optuna: pip install "raytune-hpo[optuna]"')
    import optuna

    url, _, name = place.partition("#")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is experimental
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            storage = _storage(optuna, url, source)
            names = [study.study_name for study in optuna.get_all_study_summaries(storage, include_best_trial=False)]
            chosen = _chosen(name, names, source)
            study = optuna.load_study(study_name=chosen, storage=storage)
            if len(study.directions) > 1:
                expected = f"has {len(study.directions)} objectives: evidence is of one"
                raise ExperimentError("--from", source, expected)
            direction = study.direction.name.lower()
            trials = study.get_trials(deepcopy=False)
        except ExperimentError:
            raise
        except Exception as error:  # of a database, or of a driver that is not installed
            raise unreadable(source, error) from error
        finally:
            optuna.logging.set_verbosity(level)
    found = Records(source, reversed=direction != f"{objective.mode}imize")
    if found.reversed:
        found.remarks.append(f"the study's values are {direction}d: the best of them counts as the best here")
    for trial in trials:
        _add(found, trial)
    return found


def _storage(optuna: Any, url: str, source: str) -> Any:
    if "://" not in url:
        if not Path(url).is_file():
            raise ExperimentError("--from", source, f"no such file: {url}")
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(url))
    driver, _, path = url.partition(":///")
    if driver.startswith("sqlite"):  # which makes a new database of a name that is none
        if not Path(path).is_file():
            raise ExperimentError("--from", source, f"no such database: {path or url}")
        # Read alone, whatever its version: nothing is migrated.
        return optuna.storages.RDBStorage(url, skip_table_creation=True)
    return optuna.storages.RDBStorage(url)


def _chosen(name: str, names: list[str], source: str) -> str:
    listed = ", ".join(names[:8]) or "none"
    if name and name not in names:
        raise ExperimentError("--from", source, f"has no study {name!r}; there are {listed}")
    if not name and len(names) != 1:
        raise ExperimentError("--from", source, f"name one of its studies by #STUDY: {listed}")
    return name or names[0]


def _add(found: Records, trial: Any) -> None:
    state = trial.state.name
    if state not in ("COMPLETE", "PRUNED"):
        found.without[f"is {state.lower()}"] += 1
        return
    steps = trial.intermediate_values
    before = 0 if min(steps, default=1) >= 1 else 1 - min(steps)
    curve = {int(step) + before: float(value) for step, value in sorted(steps.items())}
    if state == "COMPLETE":
        curve[max(curve, default=1)] = math.nan if trial.value is None else float(trial.value)
    if not curve:
        found.without["reported nothing"] += 1
        return
    found.trials.append(Record(dict(trial.params), curve))
