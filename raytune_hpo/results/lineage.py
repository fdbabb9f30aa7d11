"""Lineage: the segments in which a trial's weights came about, each under one config.

A segment begins from scratch or from a checkpoint: PBT's exploits, a panda's care, a person's interventions and the
later rounds of a search each begin a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from raytune_hpo.journal.events import Amended, Discovered, Narrowed, Perturbed, Reported, Settled, Suggested
from raytune_hpo.results.results import Results
from raytune_hpo.space.configs import Config


@dataclass(frozen=True)
class Segment:
    """Epochs first + 1 to last of `trial` in one `generation`, under `config`. why: what began it.
    donor: the trial and generation whose checkpoint at `first` it began from, None from scratch. max_epochs: the run's
    then; None where it was not asked for."""

    trial: str
    generation: int
    config: Config
    first: int
    last: int
    why: str
    donor: tuple[str, int] | None = None
    max_epochs: int | None = None


Key = tuple[str, int]  # a trial and a generation


def segments(results: Results) -> dict[Key, Segment]:
    """Every segment of a run, in the order in which they began; each as far as it was reported."""
    last: dict[Key, int] = {}
    for event in results.of(Reported):
        key = event.trial, event.generation
        last[key] = max(last.get(key, 0), event.epoch)
    found: dict[Key, Segment] = {}
    now: dict[str, int] = {}  # a trial's generation
    for begun in results.events:
        match begun:
            case Suggested(trial, config, parent=parent, checkpoint=checkpoint):
                first, donor, generation, why = 0, None, 0, "start"
                if checkpoint is not None and parent is not None:
                    first, donor = checkpoint.epoch, (parent, now.get(parent, 0))
            case Perturbed(trial, new_config=config, generation=generation, reason=why):
                first, donor = begun.donor_epoch, (begun.donor, begun.donor_generation)
            case Narrowed(trial, config) | Discovered(trial, config):  # before its first epoch
                found[trial, 0] = replace(found[trial, 0], config=config)
                continue
            case _:
                continue
        key, now[trial] = (trial, generation), generation
        found[key] = Segment(trial, generation, config, first, max(first, last.get(key, first)), why, donor)
    return found


def of_one_length(results: Results, chain: list[Segment]) -> list[Segment]:
    """The same, cut where the run's max_epochs was amended: learning-rate schedules are of it."""
    now = int(results.experiment["max_epochs"])
    first = next((a.before["max_epochs"] for a in results.of(Amended) if "max_epochs" in a.before), now)
    now = following = int(first)
    length: dict[tuple[str, int, int], int] = {}
    for event in results.events:
        match event:
            case Amended():
                following = int(event.changes.get("max_epochs", following))
            case Settled():
                now = following
            case Reported():
                length.setdefault((event.trial, event.generation, event.epoch), now)
    out: list[Segment] = []
    for segment in chain:
        cut = replace(segment, last=segment.first, max_epochs=now)
        for epoch in range(segment.first + 1, segment.last + 1):
            own = length.get((segment.trial, segment.generation, epoch), now)
            if cut.last > cut.first and own != cut.max_epochs:
                out.append(cut)
                cut = replace(cut, first=epoch - 1, why="amended")
            cut = replace(cut, last=epoch, max_epochs=own)
        out.append(cut)
    return out


def lineage(results: Results, trial: str, generation: int, epoch: int) -> list[Segment]:
    """The segments that lead to the state of `trial` at `epoch` of `generation`, oldest first."""
    every = segments(results)
    key: Key | None = (trial, generation)
    chain: list[Segment] = []
    while key is not None:
        segment = every[key]
        chain.insert(0, replace(segment, last=epoch))
        key, epoch = segment.donor, segment.first
    return chain
