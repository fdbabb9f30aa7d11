"""Records of another run as configs of a space: mapped by name, value by value, in the space's own scales."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raytune_hpo.evidence.records import Record, Records
from raytune_hpo.objective import Objective
from raytune_hpo.search.fidelity import levels
from raytune_hpo.space import SearchSpace, describe
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Float, Int, Parameter

MOST = 10_000  # trials of one source: what a searcher looks at is far less
FEW = 6
NONE_SUCH: Any = object()


@dataclass
class Fitted:
    """rows: (config, epoch -> the best value up to there); unfit: why -> how many trials; remarks: lines."""

    source: str
    rows: list[tuple[Config, dict[int, float]]] = field(default_factory=list)
    unfit: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What was left out, and what else is to be known."""
        left_out = sum(self.unfit.values())
        why = [f"{reason} ({count})" for reason, count in self.unfit.most_common(FEW)]
        why += ["..."] if len(self.unfit) > FEW else []
        found = [f"{left_out} left out: {', '.join(why)}"] if left_out else []
        return "; ".join([*found, *self.remarks])


def fitted(records: Records, space: SearchSpace, objective: Objective) -> Fitted:
    """What lies in the space."""
    found = Fitted(records.source, unfit=Counter(records.without), remarks=list(records.remarks))
    ignored, others = dict[str, None](), Counter[str]()
    for record in records.trials:
        if not len(space):
            found.unfit["the space is not known before trials have asked for it"] += 1
            continue
        if len(found.rows) == MOST:
            found.unfit[f"beyond the first {MOST:,}"] += 1
            continue
        values, unused = _by_name(record, space)
        ignored.update(dict.fromkeys(unused))
        config = _config(values, space)
        if isinstance(config, str):
            found.unfit[config] += 1
            continue
        others.update(
            path for path, value in space.constants.items() if path in record.values and record.values[path] != value
        )
        found.rows.append((config, _thinned(record.curve, objective, reverse=records.reversed)))
    if others:
        listed = ", ".join(f"{path} in {count}" for path, count in others.most_common(FEW))
        found.remarks.append(f"had another value of what is fixed here: {listed}")
    if ignored:
        listed = ", ".join(list(ignored)[:FEW]) + (", ..." if len(ignored) > FEW else "")
        found.remarks.append(f"not looked at: {listed}")
    return found


def _by_name(record: Record, space: SearchSpace) -> tuple[dict[str, Any], list[str]]:
    """Parameter -> its value in the record: by the whole path, or by its last name where only one has that. And the
    names that are none of the space's."""
    own = Counter(_last(path) for path in space.parameters)
    theirs = Counter(map(_last, record.values))
    by_last = {_last(name): name for name in record.values}
    names = {}
    for path in space.parameters:
        if path in record.values:
            names[path] = path
        elif own[_last(path)] == theirs[_last(path)] == 1:
            names[path] = by_last[_last(path)]
    unused = [name for name in record.values if name not in names.values() and name not in space.constants]
    return {path: record.values[name] for path, name in names.items()}, unused


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _config(values: Mapping[str, Any], space: SearchSpace) -> Config | str:
    """Or why there is none."""
    active: dict[str, Any] = {}
    for path in space.order:
        if not space.is_active(path, active):
            continue
        if path not in values:
            return f"no value of {path}"
        parameter = space.parameters[path]
        value = _as_own(parameter, values[path])
        if value is NONE_SUCH:
            return f"{path} is not in {describe(parameter)}"
        active[path] = value
    return space.build({**dict.fromkeys(space.paths), **active})


def _as_own(parameter: Parameter, value: Any) -> Any:
    """A value as the parameter has it; NONE_SUCH where it has none such. A number in text is one, 64.0 is a 64."""
    if isinstance(parameter, Choice):
        own = parameter.recorded(value)
        if parameter.accepts(own):
            return own
        same = [option for option in parameter.options if str(option) == str(value) or _equal(option, value)]
        return same[0] if len(same) == 1 else NONE_SUCH
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return NONE_SUCH
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return NONE_SUCH
    if isinstance(parameter, Int):
        value = int(value) if value == int(value) else value
    elif isinstance(parameter, Float):
        value = float(value)
        if parameter.step is not None and parameter.low <= value <= parameter.high:
            value = parameter.at_place(parameter.place_of(value))
    return value if parameter.accepts(value) else NONE_SUCH


def _equal(option: Any, value: Any) -> bool:
    """Of numbers: 64 and 64.0 and "64.0"."""
    try:
        return not isinstance(option, bool) and isinstance(option, int | float) and float(value) == option
    except (TypeError, ValueError):
        return False


def _thinned(curve: Mapping[int, float], objective: Objective, *, reverse: bool) -> dict[int, float]:
    """At thirds of its last epoch, as searchers look at it. reverse: the values are better the other way round."""
    last = max(curve)
    kept, best = {}, math.nan
    marks = iter(levels(last))
    mark = next(marks)
    for epoch in sorted(curve):
        value = -curve[epoch] if reverse else curve[epoch]
        if math.isfinite(value) and (math.isnan(best) or objective.better(value, best)):
            best = value
        if epoch >= mark:
            kept[epoch] = best
            mark = next((later for later in marks if later > epoch), last + 1)
    return kept
