"""Parameters that other tuners write as objects: each is refused by name, with ours beside it.

They are known by their module and class, and read by their attributes: nothing is imported for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from raytune_hpo.space.our_words import (
    NO_EQUAL,
    Foreign,
    choice,
    float_,
    int_,
    listed,
    normal,
    range_,
    refuse,
    said,
    written,
)


def refuse_object(where: str, value: Any) -> None:
    """Raise ExperimentError for an object that is another tuner's parameter."""
    kind = type(value)
    module = str(kind.__module__).split(".")
    read = next((read for known, read in _OBJECTS.items() if tuple(module[: len(known)]) == known), None)
    if read is not None:
        try:
            found = read(value)
        except Exception:  # of a version that has other attributes
            found = Foreign(f"{module[0]}'s", " ".join(repr(value).split()), NO_EQUAL)
        refuse(where, found)
    if kind in (range, set, frozenset):
        options = sorted(value, key=repr) if kind is not range else []
        whose = "no parameter" if kind is range else "no plain JSON value"
        refuse(where, Foreign(whose, repr(value), range_(value) if kind is range else choice(options)))


def ours_of(value: Any) -> str:
    """What to write in the place of one of Ray Tune's parameters, or why there is nothing."""
    found = _ray(value)
    return NO_EQUAL if found is None else found.ours


def _ray(value: Any) -> Foreign | None:
    """Ray Tune's, and FLAML's and Syne Tune's, which have their classes from there."""
    kind = type(value).__name__
    package = type(value).__module__.split(".")[0]
    whose = {"flaml": "FLAML's", "syne_tune": "Syne Tune's"}.get(package, "Ray Tune's")
    sampler = getattr(value, "sampler", None)
    step = getattr(sampler, "q", None)
    inner: Any = getattr(sampler, "sampler", None) or sampler
    of = type(inner).__name__ if inner is not None else "_Uniform"
    log, q = "Log" in of, "q" if step is not None else ""
    listed = ", ".join(
        written(v) for v in (getattr(value, "lower", None), getattr(value, "upper", None), step) if v is not None
    )
    if kind == "Categorical":
        options = list(value.categories)
        return Foreign(whose, f"choice({options})", choice(options))
    if kind == "Integer":
        # The upper end of randint is left out, that of qrandint is not.
        high = value.upper if step is not None or package == "syne_tune" else value.upper - 1
        return Foreign(whose, f"{q}{'log' * log}randint({listed})", int_(value.lower, high, log=log, step=step))
    if kind == "Float" and of == "_Normal":
        return Foreign(whose, f"{q}randn({written(inner.mean)}, {written(inner.sd)})", normal(inner.mean, inner.sd))
    if kind == "Float":
        ours = float_(value.lower, value.upper, log=log, step=step)
        return Foreign(whose, f"{q}{'log' * log}uniform({listed})", ours)
    if kind == "Function":
        return Foreign(whose, "sample_from(...)", f"{NO_EQUAL}: compute it from the config in the code that trains")
    return Foreign(whose, repr(value), NO_EQUAL) if hasattr(value, "sample") else None


def _hyperopt(value: Any) -> Foreign | None:
    nodes = list(_nodes(value))
    parameter = next((node for node in nodes if node.name == "hyperopt_param"), None)
    if parameter is None:
        return Foreign("hyperopt's", f"hp's {value.name}", NO_EQUAL)
    of = parameter.pos_args[1]
    arguments = [getattr(a, "obj", None) for a in (*of.pos_args, *(a for name, a in of.named_args if name != "rng"))]
    whole = value.name == "int"
    if value.name == "switch":
        options = [getattr(option, "obj", option) for option in value.pos_args[1:]]
        plain = all(hasattr(option, "obj") for option in value.pos_args[1:])
        ours = choice(options) if plain else "Choice([...]), and .when(...) for what only one option has"
        return Foreign("hyperopt's", f"hp.choice({options if plain else '...'})", ours)
    read: dict[str, Callable[..., str]] = {
        "uniform": float_,
        "loguniform": lambda low, high: float_(math.exp(low), math.exp(high), log=True),
        "quniform": lambda low, high, q: int_(low, high, step=q) if whole else float_(low, high, step=q),
        "qloguniform": lambda low, high, q: float_(math.exp(low), math.exp(high), log=True, step=q),
        "randint": lambda low, high=None: int_(0, low - 1) if high is None else int_(low, high - 1),
        "normal": normal,
        "qnormal": lambda mean, deviation, q: normal(mean, deviation),
    }
    return Foreign("hyperopt's", f"hp.{of.name}({listed(arguments)})", said(read.get(of.name), arguments))


def _nodes(node: Any) -> Sequence[Any]:
    """A hyperopt expression and what it is made of, from the outside in."""
    inner = [*node.pos_args, *(argument for _, argument in node.named_args)] if hasattr(node, "pos_args") else []
    return [node, *(below for argument in inner for below in _nodes(argument))]


def _optuna(value: Any) -> Foreign | None:
    kind = type(value).__name__
    if kind == "CategoricalDistribution":
        ours = choice(list(value.choices))
    elif kind.startswith("Int"):
        ours = int_(value.low, value.high, log=bool(getattr(value, "log", False)), step=value.step)
    elif hasattr(value, "low"):
        step, log = getattr(value, "step", None), bool(getattr(value, "log", "Log" in kind))
        ours = float_(value.low, value.high, log=log, step=step)
    else:
        return Foreign("Optuna's", repr(value), NO_EQUAL)
    return Foreign("Optuna's", repr(value), ours)


def _configspace(value: Any) -> Foreign | None:
    kind = type(value).__name__
    options = getattr(value, "choices", getattr(value, "sequence", None))
    if options is not None:
        ours = choice(list(options))
    elif kind == "Constant":
        ours = f"a constant, {written(value.value)}"
    elif hasattr(value, "lower") and hasattr(value, "upper"):
        read = int_ if "Integer" in kind else float_
        ours = read(value.lower, value.upper, log=bool(getattr(value, "log", False)))
    else:
        ours = NO_EQUAL
    return Foreign("ConfigSpace's", " ".join(repr(value).split()), ours)


def _skopt(value: Any) -> Foreign | None:
    kind = type(value).__name__
    log = getattr(value, "prior", None) == "log-uniform"
    if kind == "Categorical":
        ours = choice(list(value.categories))
    elif kind in ("Integer", "Real"):
        ours = (int_ if kind == "Integer" else float_)(value.low, value.high, log=log)
    else:
        return None
    return Foreign("scikit-optimize's", repr(value), ours)


def _scipy(value: Any) -> Foreign | None:
    if not type(value).__name__.endswith("_frozen"):
        return None
    name, given = value.dist.name, [*value.args, *value.kwds.values()]
    low, high = value.support()
    read = {
        "uniform": lambda: float_(low, high),
        "loguniform": lambda: float_(low, high, log=True),
        "reciprocal": lambda: float_(low, high, log=True),
        "randint": lambda: int_(low, high),
        "norm": lambda: normal(value.mean(), value.std()),
    }.get(name)
    return Foreign("SciPy's", f"{name}({listed(given)})", NO_EQUAL if read is None else read())


def _nevergrad(value: Any) -> Foreign | None:
    return Foreign("nevergrad's", repr(value), NO_EQUAL) if hasattr(value, "mutate") else None


#: Module, by its first names -> what reads its objects.
_OBJECTS: dict[tuple[str, ...], Callable[[Any], Foreign | None]] = {
    ("ray", "tune", "search", "sample"): _ray,
    ("flaml", "tune"): _ray,
    ("syne_tune", "config_space"): _ray,
    ("hyperopt", "pyll"): _hyperopt,
    ("optuna", "distributions"): _optuna,
    ("ConfigSpace",): _configspace,
    ("skopt", "space"): _skopt,
    ("scipy", "stats"): _scipy,
    ("nevergrad",): _nevergrad,
}
