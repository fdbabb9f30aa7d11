"""HyperOptSearch: the tree-structured Parzen estimator, as hyperopt implements it.

Bergstra, Bardenet, Bengio & Kegl, "Algorithms for Hyper-Parameter Optimization" (2011). Every parameter
gets hyperopt's distribution of its own kind and scale (`LABELS`), and each suggestion is one call of
`hyperopt.tpe.suggest` on documents made from the history.

What is ours, and why:
- Conditions. The domain is flat, and the document of a trial holds the active parameters only. TPE fits
  each label's densities on the trials that have it, so this is conditional TPE, for any conditions.
- Losses are ranks. TPE only asks which trials are the best, so ranks lose nothing, and a loss of 1e300
  or a failed trial (the worst rank) cannot distort anything. Trials that were stopped, are paused or run are ranked
  by what is expected of them at max_epochs (`fidelity`), as soon as they have shown something.
- Pending trials that have shown nothing count as bad (the constant liar of Ginsbourger et al., 2010, as Optuna's TPE
  does): suggestions made in parallel keep away from one another.
- At most MAX_DOCUMENTS trials are handed over, which bounds the cost of a suggestion: the good ones,
  then the most recent. (TPE's own linear forgetting lets the weight of old bad trials fade anyway.)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.search.history import Suggestion
from raytune_hpo.search.import_later import import_later
from raytune_hpo.search.limits import check_size
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Float, Int, Parameter

MOST_PARAMETERS = 1000
MAX_DOCUMENTS = 250
MAX_GOOD = 25  # hyperopt's own cap on the number of good trials (tpe.DEFAULT_LF)
MODEL_ATTEMPTS = 4  # a config that was suggested before is drawn again from the model, then at random


class HyperOptSearch(SearchAlgorithm):
    """TPE on documents made from the history. MOST_PARAMETERS parameters at most, of which ten options of an unordered
    Choice count as one more."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        n_initial: int = option(10, low=1, high=100_000, doc="random configs until so many trials have shown something")
        gamma: float = option(
            0.8, low=0.01, high=10.0, doc="the good trials are the best ceil(gamma * sqrt(finished)), at most 25"
        )
        n_candidates: int = option(
            24, low=1, high=10_000, doc="draws per parameter, the best of which by the ratio of densities is taken"
        )
        prior_weight: float = option(1.0, low=1e-3, high=1e3, doc="of the prior in the densities")

    name = "hyperopt"
    options: Options

    def prepare(self) -> None:
        options = sum(p.categories for p in self.space.parameters.values())
        size = len(self.space) + options // 10
        check_size(self.name, size, MOST_PARAMETERS, "parameters (ten options of an unordered Choice count as one)")
        self._domain: Any = None
        self._miscs: list[dict[str, Any]] = []  # of history[:len(_miscs)]; a cache

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config:
        if len(self.known()) < self.options.n_initial or attempt >= MODEL_ATTEMPTS:
            return self.space.sample(rng)
        labels = self._suggest_labels(number, int(rng.integers(2**31)))
        return self.space.build({path: from_label(self.space.parameters[path], v) for path, v in labels.items()})

    def _suggest_labels(self, number: int, seed: int) -> dict[str, Any]:
        hyperopt = imported_hyperopt()
        domain = self._get_domain()
        documents, gamma = self._documents()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Densities underflow to log(0) far from every observation; argmax copes with -inf. What else hyperopt warns
            # of is its own; and no more is ignored, since a trial may be warning beside this.
            warnings.filterwarnings("ignore", module="hyperopt")
            trials = hyperopt.trials_from_docs(documents, validate=False)
            answer = hyperopt.tpe.suggest(
                [number],
                domain,
                trials,
                seed,
                prior_weight=self.options.prior_weight,
                n_startup_jobs=0,
                n_EI_candidates=self.options.n_candidates,
                gamma=gamma,
                verbose=False,
            )
        return {path: values[0] for path, values in answer[0]["misc"]["vals"].items()}

    def _get_domain(self) -> Any:
        if self._domain is None:
            hyperopt = imported_hyperopt()
            expression = {path: label(path, p) for path, p in self.space.parameters.items()}
            self._domain = hyperopt.Domain(_no_objective, expression)
        return self._domain

    def _documents(self) -> tuple[list[dict[str, Any]], float]:
        """The trials for TPE in the order of their suggestion, and the gamma for the right number of good ones."""
        for position in range(len(self._miscs), len(self.history)):
            self._miscs.append(self._misc(position, self.history[position]))
        ranked = [self.past.position[s.trial_id] for s in self.ranked(self.known())]
        n_good = min(math.ceil(self.options.gamma * math.sqrt(len(ranked))), MAX_GOOD, len(ranked))
        good = ranked[:n_good]
        others = sorted(set(range(len(self.history))) - set(good))[-(MAX_DOCUMENTS - n_good) :]
        rank = {position: r for r, position in enumerate(ranked)}
        documents = [
            {
                "tid": position,
                "misc": self._miscs[position],
                "result": {"loss": float(rank.get(position, len(ranked))), "status": "ok"},
                "state": 2,  # hyperopt.JOB_STATE_DONE
                "spec": None,
                "exp_key": None,
                "owner": None,
                "version": 0,
                "book_time": None,
                "refresh_time": None,
            }
            for position in sorted(good + others)
        ]
        # hyperopt takes ceil(gamma * sqrt(number of documents)); the half keeps ceil away from rounding.
        return documents, (n_good - 0.5) / math.sqrt(len(documents))

    def _misc(self, position: int, suggestion: Suggestion) -> dict[str, Any]:
        active = self.space.values(suggestion.config)
        vals = {p: [to_label(self.space.parameters[p], active[p])] if p in active else [] for p in self.space.paths}
        idxs = {p: [position] if p in active else [] for p in self.space.paths}
        return {"tid": position, "cmd": None, "workdir": None, "idxs": idxs, "vals": vals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._miscs = []
        super().load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        # hyperopt's expression graph is a cache, and does not pickle everywhere.
        return {**self.__dict__, "_domain": None}


def imported_hyperopt() -> Any:
    """hyperopt, without waiting for scipy.stats: two thirds of its import, for its adaptive TPE, which is not used."""
    import_later("scipy.stats")
    import hyperopt

    return hyperopt


def _no_objective(_: object) -> float:
    raise NotImplementedError("the domain describes a space; nothing is evaluated in it")


def label(path: str, parameter: Parameter) -> Any:
    """hyperopt's own distribution for `parameter`, named `path`.

    Whole numbers and ordered options: uniform over the index, quantised, with half a step of room at
    both ends (hyperopt would make the two ends half as likely); an Int in log scale likewise over its
    value; unordered options: a categorical; reverse log: loguniform over 1 - value; a Float with a step: its places.
    """
    hp = imported_hyperopt().hp
    parameter = (parameter.places or parameter) if isinstance(parameter, Float) else parameter
    if isinstance(parameter, Float):
        low, high = parameter.low, parameter.high
        if parameter.scale == "log":
            return hp.loguniform(path, math.log(low), math.log(high))
        if parameter.scale == "reverse_log":
            return hp.loguniform(path, math.log1p(-high), math.log1p(-low))
        return hp.uniform(path, low, high)
    if isinstance(parameter, Int) and parameter.scale == "log":
        return hp.qloguniform(path, *parameter.log_bounds(), 1)
    if parameter.categories:
        return hp.choice(path, list(range(parameter.categories)))
    assert isinstance(parameter, Int | Choice)
    return hp.quniform(path, -0.5, parameter.n - 0.5, 1)


def to_label(parameter: Parameter, value: Any) -> float | int:
    """A parameter's value as hyperopt's label takes it: of a Float with a step, what its place is."""
    if isinstance(parameter, Float) and parameter.places is not None:
        return to_label(parameter.places, parameter.place_of(value))
    if isinstance(parameter, Float):
        return 1.0 - value if parameter.scale == "reverse_log" else float(value)
    if isinstance(parameter, Int) and parameter.scale == "log":
        return float(value)
    assert isinstance(parameter, Int | Choice)
    return parameter.index_of(value)


def from_label(parameter: Parameter, value: Any) -> Any:
    """The inverse of `to_label`, clipped into the parameter's range (quantising may step over an end)."""
    if isinstance(parameter, Float) and parameter.places is not None:
        return parameter.at_place(from_label(parameter.places, value))
    if isinstance(parameter, Float):
        x = 1.0 - float(value) if parameter.scale == "reverse_log" else float(value)
        return min(max(x, parameter.low), parameter.high)
    if isinstance(parameter, Int) and parameter.scale == "log":
        return min(max(round(float(value)), parameter.low), parameter.high)
    assert isinstance(parameter, Int | Choice)
    return parameter.value_at(min(max(round(float(value)), 0), parameter.n - 1))
