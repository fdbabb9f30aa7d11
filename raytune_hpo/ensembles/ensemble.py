"""An ensemble of a run's checkpoints: chosen on the validation split, tested once, exported as one module.

    greedy     forward selection with replacement over all kept checkpoints (Caruana et al. 2004)
    top        the best checkpoints of the k best trials, with equal weights
    snapshot   the newest kept checkpoints of the winner's own trial (Huang et al. 2017, arXiv:1704.00109)

With `folds`, a checkpoint is the average of its k models.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_hpo import checks
from raytune_hpo.ensembles.library import Candidate, Library, device
from raytune_hpo.ensembles.selection import average, figures, gains, greedy, per_sample, unmeasured
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.project import Code
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.results.export import check_target, write_json
from raytune_hpo.results.exported_model import takes_of, write_model
from raytune_hpo.results.results import Results
from raytune_hpo.results.sealed_test import Opening, open_test, recorded
from raytune_hpo.results.winner import load_test_split
from raytune_hpo.seeding import generator
from raytune_hpo.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from torch import nn

METHODS = ("greedy", "top", "snapshot")
ENSEMBLE = "ensemble"
"""The purpose under which the test split is opened."""
MAX_SIZE = 100


@dataclass(frozen=True)
class Ensemble:
    """A chosen ensemble. members: (candidate, how often it counts). single: the winner's best checkpoint, which it
    is compared with. looked_at: how many checkpoints there were to choose from. validation: its metrics there.
    """

    method: str
    metric: str
    members: tuple[tuple[Candidate, int], ...]
    single: Candidate
    looked_at: int
    validation: dict[str, float]
    notices: tuple[str, ...]

    @property
    def weights(self) -> list[float]:
        """Each member's share in the average."""
        total = sum(count for _, count in self.members)
        return [count / total for _, count in self.members]

    @property
    def subject(self) -> dict[str, Any]:
        """What the test split's record says was tested."""
        members = [{"checkpoint": member.record.path, "count": count} for member, count in self.members]
        return {"method": self.method, "members": members, "single": self.single.record.path}

    def to_json(self, opening: Opening | None) -> dict[str, Any]:
        """The document of `ensemble --json` and of ensemble.json."""
        members = zip(self.members, self.weights, strict=True)
        return {
            "method": self.method,
            "metric": self.metric,
            "looked_at": self.looked_at,
            "members": [{**_to_json(member), "weight": weight} for (member, _), weight in members],
            "validation": self.validation,
            "single": _to_json(self.single),
            "test": opening and {"opened": opening.begun, "again": opening.again, **(opening.metrics or {})},
            "notices": list(self.notices),
        }


def _to_json(candidate: Candidate) -> dict[str, Any]:
    record = candidate.record
    return {
        "trial": record.trial,
        "epoch": record.epoch,
        "checkpoint": record.path,
        "config": candidate.config,
        "validation": candidate.validation,
    }


class Builder:
    """Chooses, tests and exports ensembles of one run, whose lock the caller holds; experiment: its own; headway: told
    of all that takes long.

    Raises ExperimentError for a run of a function trainable.
    """

    def __init__(
        self, directory: RunDirectory, results: Results, experiment: ResolvedExperiment, headway: Headway = UNSEEN
    ) -> None:
        self.directory = directory
        self.results = results
        self.headway = headway
        self.library = Library(directory, results, experiment)
        self.task, self.seed = self.library.task, self.library.experiment.seed
        metric = results.metric.removeprefix("validation_")
        self.metrics = self.library.metrics
        self._wanted = metric
        self.metric = metric if metric in {m.name for m in self.metrics} else "loss"

    def choose(self, method: str = "greedy", size: int = 10) -> Ensemble:
        """An ensemble of at most `size` members. Raises ExperimentError where fewer than 2 can be had."""
        checks.one_of("--method", method, METHODS)
        checks.integer("-k", size, 2, MAX_SIZE)
        library, metrics = self.library, self.metrics
        library.notices.clear()
        for name in unmeasured(self.task):
            instead = f"; members are chosen by {self.metric}" if self._wanted == name else ""
            library.notices.append(f"{name} is of a whole split, and is not measured of ensembles{instead}")
        match method:
            case "greedy":
                found, y = library.load(library.all(), None, self.headway)
            case "top":
                found, y = library.load(library.best_of_trials(), size, self.headway)
            case _:
                found, y = library.load(library.newest_of_winner(), size, self.headway)
        if len(found) < 2:
            where = "the winner's trial" if method == "snapshot" else "the run"
            expected = (
                f"an ensemble needs 2 sound checkpoints, {where} keeps {len(found)} (checkpoint.keep_trials says how "
                "many finished trials keep theirs)"
            )
            raise ExperimentError("run directory", str(self.directory.path), "; ".join([expected, *library.notices]))
        predictions = np.stack([c.predictions for c in found])
        counts = [1] * len(found)
        if method == "greedy":
            counts = greedy(predictions, y, metrics, self.metric, size, self.headway)
        winner = self.results.ledger.winner()
        of_winner = [c for c in found if c.trial is winner]
        single = min(of_winner or found, key=lambda c: c.rank(library.experiment.objective))
        if winner is not None and single.trial is not winner:
            library.notices.append(f"the winner, {winner.id}, has no sound checkpoint: compared with {single.trial.id}")
        return Ensemble(
            method=method,
            metric=self.metric,
            members=tuple((c, count) for c, count in zip(found, counts, strict=True) if count),
            single=single,
            looked_at=len(found),
            validation=figures(per_sample(average(predictions, counts), y, metrics), metrics),
            notices=tuple(library.notices),
        )

    def model(self, ensemble: Ensemble) -> nn.Module:
        """The ensemble as one module, on the CPU in eval mode."""
        from raytune_hpo.training.averaged import AveragedPredictions

        models = [self.library.model(member.record, member.config) for member, _ in ensemble.members]
        return AveragedPredictions(models, self.task.kind, ensemble.weights).eval()

    def test(self, ensemble: Ensemble, *, again: bool = False) -> Opening:
        """Open the test split, once, for the ensemble and the single winner beside it.

        Of an ensemble that was tested already the recorded figures are answered and nothing is opened. Raises
        ExperimentError if another one was, unless `again`.
        """
        earlier = None if again else recorded(self.directory.path, ENSEMBLE, ensemble.subject)
        if earlier is not None:
            return earlier
        return open_test(self.directory, ENSEMBLE, ensemble.subject, lambda: self._test_metrics(ensemble), again=again)

    def _test_metrics(self, ensemble: Ensemble) -> dict[str, float]:
        from raytune_hpo.training.ensemble_model import predictions

        single, by = ensemble.single, self.metrics
        models = [self.model(ensemble), self.library.model(single.record, single.config)]
        self.headway.begin("loading the test split")
        split, statistics = load_test_split(self.task, self.seed)
        self.headway.begin("testing the ensemble and the single model")
        found = [predictions(m.to(device()), split, self.task, statistics) for m in models]
        y = found[0][1]
        chosen, alone = (per_sample(predicted, y, by) for predicted, _ in found)
        metrics = {f"test_{name}": value for name, value in figures(chosen, by).items()}
        metrics |= {f"single_test_{name}": value for name, value in figures(alone, by).items()}
        rng = generator(self.seed, "ensemble", "bootstrap")
        for name, interval in gains(chosen, alone, by, rng, headway=self.headway).items():
            metrics |= dict(zip((f"gain_{name}", f"gain_{name}_low", f"gain_{name}_high"), interval, strict=True))
        return {**metrics, "samples": len(y)}

    def export(self, ensemble: Ensemble, opening: Opening | None, target: Path, code: Code | None = None) -> list[str]:
        """Write weights.safetensors, model.pt2 and ensemble.json to a new or empty folder. Answers their names.

        code: what the task is of, for a model that cannot be written without it."""
        check_target(target)
        target.mkdir(parents=True, exist_ok=True)
        model = self.model(ensemble)
        predicts = write_model(self.task, model, takes_of(self.results, self.task), target, code, self.headway)
        document = {**ensemble.to_json(opening), "predicts": predicts}
        for member in document["members"]:
            member.update(self.task.recorded_config(member["config"]))
            member["folds"] = self.library.experiment.folds
        document["task"] = self.results.experiment["task"]
        document["versions"] = self.directory.description()["versions"]
        write_json(target / "ensemble.json", document)
        return sorted(p.name for p in target.iterdir())
