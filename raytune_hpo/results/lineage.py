"""Lineage: the segments in which a trial's weights came about, each under one config.

A segment begins from scratch or from a checkpoint: PBT's exploits, a panda's care, a person's interventions and the
later rounds of a search each begin a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from raytune_hpo.journal.events import Narrowed, Perturbed, Reported, Suggested
from raytune_hpo.results.results import Results
from raytune_hpo.space.configs import Config


@dataclass(frozen=True)
class Segment:
    """Epochs first + 1 to last of `trial` in one `generation`, under `config`. why: what began it.
    donor: the trial and generation whose checkpoint at `first` it began from, None from scratch."""

    trial: str
    generation: int
    config: Config
    first: int
    last: int
    why: str
    donor: tuple[str, int] | None = None


Key = tuple[str, int]  # a trial and a generation


def segments(results: Results) -> dict[Key, Segment]:
    """Every segment of a run, in the order in which they began; each as far as it was reported."""
    last: dict[Key, int] = {}
    for event in results.of(Reported):
        key = event.trial, event.generation
        last[key] = max(last.get(key, 0), event.epoch)
    found: dict[Key, Segment] = {}
    for begun in results.events:
        match begun:
            case Suggested(trial, config, parent=parent, checkpoint=checkpoint):
                first, donor, generation, why = 0, None, 0, "start"
                if checkpoint is not None and parent is not None:
                    # Who goes on from a parent is a search; it is a scheduler that makes generations.
                    first, donor = checkpoint.epoch, (parent, 0)
            case Perturbed(trial, new_config=config, generation=generation, reason=why):
                first, donor = begun.donor_epoch, (begun.donor, begun.donor_generation)
            case Narrowed(trial, config):  # before its first epoch
                found[trial, 0] = replace(found[trial, 0], config=config)
                continue
            case _:
                continue
        key = trial, generation
        found[key] = Segment(trial, generation, config, first, max(first, last.get(key, first)), why, donor)
    return found


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
