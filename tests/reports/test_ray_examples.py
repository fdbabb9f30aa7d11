"""Ray's own examples give the checkpoints and the files that they give under plain Ray Tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import example_trainables
import pytest
from example_trainables import EXAMPLES, Example, example
from ray import cloudpickle, tune

from raytune_hpo import Choice, Experiment, run
from raytune_hpo.journal.events import CheckpointSaved

STEPS = 4
#: What Ray Tune itself writes into a trial's directory.
RAYS = ("params.", "result.json", "progress.csv", "events.out", "error.", ".")


Files = dict[str, bytes]


def files(folder: Path) -> Files:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def under_ray(trainable: Any, space: dict[str, Any], path: Path, **checkpoints: Any) -> dict[str, list[Files]]:
    """which -> the files in the trial's directory, and of each checkpoint."""
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(reuse_actors=not isinstance(trainable, type)),
        run_config=tune.RunConfig(
            storage_path=str(path),
            name=trainable.__name__,
            stop={"training_iteration": STEPS},
            verbose=0,
            sync_config=tune.SyncConfig(sync_artifacts=True),
            checkpoint_config=tune.CheckpointConfig(**checkpoints),
        ),
    )
    found = {}
    for result in tuner.fit():
        assert result.config is not None
        folders = sorted(Path(result.path).glob("checkpoint_*"))
        own = {n: data for n, data in files(Path(result.path)).items() if not n.startswith(("checkpoint_", *RAYS))}
        found[result.config["which"]] = [own, *(files(folder) for folder in folders)]
    return found


def check_like_rays(trainable: Any, config: dict[str, Any], metric: str, path: Path, rays: list[Files]) -> None:
    """A run of one trial leaves what Ray's did; rays: of the directory, then of each checkpoint."""
    experiment = Experiment(
        name="ours",
        task=trainable,
        space={**config, "x": Choice([0, 1])},
        metric=metric,
        mode="min",
        searcher="random",
        scheduler="fifo",
        num_samples=1,
        max_epochs=STEPS,
        executor="inline",
        checkpoint={"every": 2},
    )
    results = run(experiment, path)
    (trial,) = results.ledger.trials.values()
    assert (trial.status, trial.error) == ("completed", None)
    assert files(path / "trials" / trial.id) == rays[0]
    saved = [event.checkpoint.path for event in results.of(CheckpointSaved)]
    assert len(saved) == len(rays) - 1
    assert bool(trial.checkpoints) == bool(saved)
    for record in trial.checkpoints:  # its best and its last, which are kept
        assert files(path / record.path) == rays[1 + saved.index(record.path)]


@pytest.mark.usefixtures("ray_session")
@pytest.mark.timeout(170)
@pytest.mark.filterwarnings("ignore")  # Ray Tune's own
def test_must_show_4_rays_own_examples_leave_the_same_files(tmp_path: Path) -> None:
    cloudpickle.register_pickle_by_value(example_trainables)  # which Ray's workers cannot import
    rays = under_ray(example, {"which": tune.grid_search(list(EXAMPLES)), "x": 0}, tmp_path)
    assert set(rays) == set(EXAMPLES)
    assert sum(len(found) > 1 for found in rays.values()) == 3, "three of them save checkpoints"
    for which, (_, _, metric) in EXAMPLES.items():
        check_like_rays(example, {"which": which}, metric, tmp_path / which, rays[which])
    rays = under_ray(Example, {"which": "class", "x": 0}, tmp_path, checkpoint_frequency=2)
    assert set(rays["class"][0]) == {"setup.txt", "log.txt"}
    assert len(rays["class"]) == 3
    check_like_rays(Example, {"which": "class"}, "q_err", tmp_path / "class", rays["class"])
