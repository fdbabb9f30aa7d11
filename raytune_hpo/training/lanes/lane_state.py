"""A lane's state: as rows, as the solo trainer's state_dict, and in files of many lanes.

    solo state --load_state--> Lane --facts_of, rows--> file of lanes --read_state--> solo state

What is common to the lanes of a structure (`shared_of`) and what is a lane's own (`facts_of`) is plain JSON, all else
tensors: weights, first, second, buffers and counts as in `RowState`, and the states of the generators.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.storage.lane_files import LaneFile
from raytune_hpo.training.lanes.lane import Lane
from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.rows import Place, RowState, numbers_of, places_of
from raytune_hpo.training.rules import RULES

Rows = Mapping[str, Tensor]  # one lane's tensors, by name


def shared_of(lane: Lane) -> dict[str, Any]:
    """What all lanes of this one's structure have in common."""
    structure = lane.described.structure
    shapes = structure.shapes
    return {
        "places": [asdict(place) for place in places_of(structure)],
        "parameters": [i for i, shape in enumerate(shapes) if shape.parameter],
        "groups": [len(group.parameters) for group in structure.groups],
        "numbers": numbers_of(structure),
        "aliases": dict(structure.aliases),
    }


def facts_of(lane: Lane) -> dict[str, Any]:
    """What a lane has of its own besides tensors."""
    python, numpy_ = lane.random["python"], lane.random["numpy"]
    return {
        "epoch": lane.epoch,
        "steps": lane.steps,
        "optimizer": lane.config["optimizer"],
        "has_momentum": [g.config(lane.config)["momentum"] > 0 for g in lane.described.structure.groups],
        "position": lane.order.position,
        "key": lane.key,
        "shapes": {name: list(shape) for name, shape in lane.shapes.items()},
        "schedule": lane.schedule.state_dict(),
        "python": {"version": python["version"], "gauss_next": python["gauss_next"]},
        "numpy": {k: v for k, v in numpy_.items() if k != "keys"},
    }


def generators_of(lane: Lane) -> dict[str, Tensor]:
    """The states of a lane's generators."""
    random, drawn = lane.random, lane.generator.get_state()
    on_cpu = lane.generator.device.type == "cpu"
    return {
        "order": lane.order.state_dict()["order"],
        "torch": drawn if on_cpu else random["torch"],
        **({} if on_cpu else {"cuda": drawn}),
        "python": lane.python_state,
        "numpy": random["numpy"]["keys"],
    }


def tensors_of_lanes(lanes: Sequence[Lane], rows: RowState) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of lanes of one structure, [lanes, ...] each. rows: of these lanes, on the CPU."""
    generators = [generators_of(lane) for lane in lanes]
    own = dict(zip(("weights", "first", "second", "buffers", "counts"), rows.tensors(), strict=True))
    stacked = {name: torch.stack([g[name] for g in generators]) for name in generators[0]}
    return {name: t.numpy() for name, t in {**own, **stacked}.items()}


def state_of(lane: Lane, rows: RowState) -> dict[str, Any]:
    """A lane as `SupervisedTrainer.state_dict` would give it. rows: of this lane alone, [1, ...], on the CPU."""
    tensors = {name: torch.from_numpy(t[0]) for name, t in tensors_of_lanes([lane], rows).items()}
    return solo_state(shared_of(lane), facts_of(lane), tensors)


def solo_state(shared: Mapping[str, Any], facts: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    """What `SupervisedTrainer.load_state_dict` reads."""
    model: dict[str, Tensor] = {}
    optimizer: dict[int, dict[str, Tensor]] = {}
    rule = RULES[facts["optimizer"]]
    momenta = facts["has_momentum"]
    # Files of before parameters had groups say it of all.
    kept = [rule.kept_rows(momentum=m) for m in (momenta if isinstance(momenta, list) else [momenta])]
    numbers = shared.get("numbers") or {fields["name"]: i for i, fields in enumerate(shared["places"])}
    for fields in shared["places"]:
        place = Place(**{**fields, "padded": tuple(fields["padded"])})
        shape = facts["shapes"][place.name]
        model[place.name] = place.typed(place.corner(rows[place.row], shape)).clone()
        if place.row != "weights" or facts["steps"] == 0:
            continue
        state = {name: place.corner(rows[row], shape).clone() for row, name in kept[place.group].items()}
        if rule.counts_steps:
            state["step"] = torch.tensor(float(facts["steps"]), dtype=torch.float32)
        if state:
            optimizer[numbers[place.name]] = state
    for alias, name in shared.get("aliases", {}).items():  # files of before tied weights have none
        model[alias] = model[name].clone()
    return {
        "epoch": facts["epoch"],
        "model": model,
        "optimizer_name": facts["optimizer"],
        "optimizer": {"state": optimizer, "param_groups": _numbered_groups(shared)},
        "schedule": facts["schedule"],
        "scaler": {},
        "early_stopping": None,
        "order": rows["order"],
        **({"position": facts["position"]} if facts.get("position") else {}),
        **({"key": facts["key"]} if "key" in facts else {}),
        "random": {
            "python": {**facts["python"], "internal": rows["python"].tolist()},
            "numpy": {**facts["numpy"], "keys": rows["numpy"]},
            "torch": rows["torch"],
            "cuda": [rows["cuda"]] if "cuda" in rows else [],
        },
    }


def _numbered_groups(shared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """torch's groups of an optimizer's state: the numbers of their parameters."""
    remaining = iter(shared["parameters"])
    sizes = shared.get("groups") or [len(shared["parameters"])]
    return [{"params": list(itertools.islice(remaining, size))} for size in sizes]


def read_state(path: Path, member: str | None) -> dict[str, Any]:
    """The solo trainer's state of a lane in a file. Raises TrialError where it is damaged or not there."""
    file = LaneFile(path)
    rows, facts = file.row(member)
    tensors = {name: torch.from_numpy(np.array(row)) for name, row in rows.items()}
    try:
        return solo_state(file.shared, json.loads(facts), tensors)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:  # of another's making
        raise TrialError(
            f"checkpoint {path} cannot be read: its lanes are not described as ours are: {error}"
        ) from error


def load_state(lane: Lane, state: Mapping[str, Any], device: torch.device) -> None:
    """Let a parked lane go on from what `state_of` or `SupervisedTrainer.state_dict` gave.

    Raises TrialError where it does not fit the lane's config.
    """
    try:
        same = state["optimizer_name"] == lane.config["optimizer"]
        optimizer = state["optimizer"]["state"] if same else {}
        if {n: tuple(t.shape) for n, t in state["model"].items()} != lane.shapes:
            raise ValueError("it has other weights")
        structure = lane.described.structure
        if "key" not in state and structure.counting and not structure.is_mapped:
            raise ValueError(
                "its dropout masks came from a generator, as of versions before; in processes it goes on so"
            )
        lane.park(state["model"], optimizer, device)
        lane.schedule.load_state_dict(state["schedule"])
        lane.order.load_state_dict(state)
        lane.key = int(state.get("key", lane.key))
        lane.random = dict(state["random"])
        lane.__dict__.pop("python_state", None)
        drawn = lane.random["torch"] if device.type == "cpu" else lane.random["cuda"][device.index or 0]
        lane.generator.set_state(drawn.cpu())
        lane.epoch = int(state["epoch"])
        steps = [int(s["step"]) for s in optimizer.values() if "step" in s]
        # A rule that counts none needs none.
        lane.steps = max(steps, default=lane.epoch * lane.schedule.steps_per_epoch if same else 0)
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise TrialError(f"the saved state does not fit this trial's config: {error}") from error
