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
- What is known from elsewhere is told as the oldest trials, for as long as this run's bear it out (`source_models`):
  hyperopt forgets them first. Each trial's loss is its place among those of its own task.
- At most MAX_DOCUMENTS trials are handed over, which bounds the cost of a suggestion: the good ones,
  then the most recent. (TPE's own linear forgetting lets the weight of old bad trials fade anyway.)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.one_thread import one_thread
from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.search.config_model import targets_of
from raytune_hpo.search.evidence import Evidence, best_of_sources, by_source
from raytune_hpo.search.import_later import import_later
from raytune_hpo.search.limits import check_size
from raytune_hpo.search.source_models import LOOK_ROUND, SourceModels
from raytune_hpo.search.unit_cube import CubeEncoding
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Float, Int, Parameter

MOST_PARAMETERS = 1000
MAX_DOCUMENTS = 250
MAX_GOOD = 25  # hyperopt's own cap on the number of good trials (tpe.DEFAULT_LF)
MAX_EVIDENCE = 50  # trials of elsewhere
FIRST_TID = MAX_EVIDENCE  # of this run's: hyperopt forgets by their order
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
    uses_evidence = "observations"
    options: Options

    def prepare(self) -> None:
        options = sum(p.categories for p in self.space.parameters.values())
        size = len(self.space) + options // 10
        check_size(self.name, size, MOST_PARAMETERS, "parameters (ten options of an unordered Choice count as one)")
        self._domain: Any = None
        self._miscs: list[dict[str, Any]] = []  # of history[:len(_miscs)]; a cache
        self._sources = SourceModels(self.space, "forest", self.seed, None)

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config:
        few = len(self.known()) < self.options.n_initial
        if attempt >= MODEL_ATTEMPTS or (few and number % LOOK_ROUND == 1):
            return self.space.sample(rng)
        evidence = self._borne_out()
        if few and not evidence:
            return self.space.sample(rng)
        labels = self._suggest_labels(number, int(rng.integers(2**31)), evidence)
        return self.space.build({path: from_label(self.space.parameters[path], v) for path, v in labels.items()})

    def _suggest_labels(self, number: int, seed: int, evidence: list[list[Evidence]]) -> dict[str, Any]:
        hyperopt = imported_hyperopt()
        domain = self._get_domain()
        documents, gamma = self._documents(evidence)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Densities underflow to log(0) far from every observation; argmax copes with -inf. What else hyperopt warns
            # of is its own; and no more is ignored, since a trial may be warning beside this.
            warnings.filterwarnings("ignore", module="hyperopt")
            trials = hyperopt.trials_from_docs(documents, validate=False)
            answer = hyperopt.tpe.suggest(
                [FIRST_TID + number],
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

    def _borne_out(self) -> list[list[Evidence]]:
        """The sources of evidence that this run's trials bear out."""
        if not self.elsewhere:
            return []
        self._sources.learn(self.elsewhere)
        known = [s for s in self.known() if s.marks or s.failed]
        encoding = CubeEncoding(self.space)
        codes = encoding.encode(encoding.snap(np.array([s.unit for s in known]))) if known else None
        sources = by_source(self.elsewhere)
        if codes is None:
            return sources
        with one_thread():
            found = self._sources.borne_out(codes, targets_of(self.expected(known)))
        return [sources[i] for i in found]

    def _documents(self, evidence: Sequence[list[Evidence]] = ()) -> tuple[list[dict[str, Any]], float]:
        """For TPE the trials of elsewhere, then this run's, each in the order of their suggestion; the gamma for the
        right number of good ones. The loss of each is the share of its own task's trials that are better."""
        for position in range(len(self._miscs), len(self.history)):
            self._miscs.append(self._misc(FIRST_TID + position, self.history[position].config))
        ranked = [self.past.position[s.trial_id] for s in self.ranked(self.known())]
        losses = {position: (rank + 0.5) / len(ranked) for rank, position in enumerate(ranked)}
        told = [(losses.get(position, 1.0), misc) for position, misc in enumerate(self._miscs)]
        room = MAX_EVIDENCE // max(1, len(evidence))
        before = [one for source in evidence for one in self._of_elsewhere(source, room)]
        before = [(loss, self._misc(tid, config)) for tid, (loss, config) in enumerate(before)]
        finished = len(ranked) + len(before)
        n_good = min(math.ceil(self.options.gamma * math.sqrt(finished)), MAX_GOOD, finished)
        everything = before + told
        # (Stable: of equal ones, as of trials that are pending, the first.)
        good = sorted(range(len(everything)), key=lambda i: everything[i][0])[:n_good]
        others = sorted(set(range(len(everything))) - set(good))[-(MAX_DOCUMENTS - n_good) :]
        documents = [_document(*everything[i]) for i in sorted(good + others)]
        # hyperopt takes ceil(gamma * sqrt(number of documents)); the half keeps ceil away from rounding.
        return documents, (n_good - 0.5) / math.sqrt(len(documents))

    def _of_elsewhere(self, evidence: list[Evidence], most: int) -> list[tuple[float, Config]]:
        """Of one source at most so many, from its best to its worst."""
        configs = list(best_of_sources(self.space, evidence))
        chosen = np.unique(np.linspace(0, len(configs) - 1, min(most, len(configs))).round().astype(int))
        return [((int(i) + 0.5) / len(configs), configs[i]) for i in chosen]

    def _misc(self, tid: int, config: Config) -> dict[str, Any]:
        active = self.space.values(config)
        vals = {p: [to_label(self.space.parameters[p], active[p])] if p in active else [] for p in self.space.paths}
        idxs = {p: [tid] if p in active else [] for p in self.space.paths}
        return {"tid": tid, "cmd": None, "workdir": None, "idxs": idxs, "vals": vals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._miscs = []
        super().load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        # hyperopt's expression graph is a cache, and does not pickle everywhere.
        return {**self.__dict__, "_domain": None}


def _document(loss: float, misc: dict[str, Any]) -> dict[str, Any]:
    return {
        "tid": misc["tid"],
        "misc": misc,
        "result": {"loss": loss, "status": "ok"},
        "state": 2,  # hyperopt.JOB_STATE_DONE
        "spec": None,
        "exp_key": None,
        "owner": None,
        "version": 0,
        "book_time": None,
        "refresh_time": None,
    }


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
