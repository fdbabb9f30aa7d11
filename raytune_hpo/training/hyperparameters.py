"""The config keys that trainers, MLPs and CNNs understand: names, types, bounds, defaults. No torch here.

A config is a flat mapping from these names to plain values. A search space, a fixed config and a
model are all checked against the same records, so a wrong key or value is found before any process
starts.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.rules import RULES

ValueType = Literal["float", "int", "str", "bool", "list of int", "object"]


@dataclass(frozen=True)
class Hyperparameter:
    """One config key.

    An "object" is anything: a class, a function, an array, a list. `low` and `high` bound a number (each number of a
    "list of int"); an `open_low` or `open_high` bound is itself not allowed. `choices` lists the allowed values of a
    "str". A default of None means "not set", and None is then a legal value. `default_by_optimizer` holds the
    optimizers whose default differs from `default`.
    """

    name: str
    type: ValueType
    default: Any
    doc: str
    choices: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    default_by_optimizer: Mapping[str, Any] = field(default_factory=dict)

    def default_for(self, optimizer: str) -> Any:
        """The default under that optimizer."""
        return self.default_by_optimizer.get(optimizer, self.default)

    @property
    def expected(self) -> str:
        """What a legal value is, in words: `a float in [0, 1)`."""
        if self.choices is not None:
            return "one of " + ", ".join(self.choices)
        article = "an" if self.type == "int" else "a"
        bounds = self._bounds()
        return f"{article} {self.type} {bounds}".rstrip()

    def _bounds(self) -> str:
        each = "each " if self.type == "list of int" else ""
        if self.low is not None and self.high is not None:
            left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
            return f"{each}in {left}{self.low:g}, {self.high:g}{right}"
        if self.low is not None:
            return f"{each}{'>' if self.open_low else '>='} {self.low:g}"
        if self.high is not None:
            return f"{each}{'<' if self.open_high else '<='} {self.high:g}"
        return ""

    def allows_number(self, value: float) -> bool:
        """Whether a number is finite and within the bounds."""
        if not math.isfinite(value):
            return False
        if self.low is not None and (value < self.low or (self.open_low and value == self.low)):
            return False
        return not (self.high is not None and (value > self.high or (self.open_high and value == self.high)))


def check_value(hyperparameter: Hyperparameter, value: Any) -> Any:
    """`value` as a plain Python value (numpy scalars are converted).

    Raises ExperimentError with the field `space.<name>` where it is not a legal value.
    """
    if hyperparameter.type == "object" or (value is None and hyperparameter.default is None):
        return value
    plain = _plain(hyperparameter, value)
    if plain is None:
        default = hyperparameter.default
        number = isinstance(value, float) and hyperparameter.type == "int" and hyperparameter.low is None
        hint = (
            f", as its default {default} is; for floats make that {float(default)}"
            if number and default is not None
            else ""
        )
        raise ExperimentError(f"space.{hyperparameter.name}", value, f"must be {hyperparameter.expected}{hint}")
    return plain


def _plain(hp: Hyperparameter, value: Any) -> Any:
    """The converted value, or None where it is not legal."""
    if hp.type == "bool":
        # np.bool_ has no common base with bool, so it is recognised by its dtype.
        is_bool = isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"
        return bool(value) if is_bool else None
    if hp.type == "str":
        legal = isinstance(value, str) and (hp.choices is None or value in hp.choices)
        return str(value) if legal else None
    if hp.type == "list of int":
        if not isinstance(value, list | tuple):
            return None
        numbers_ = [_number(hp, item, integral=True) for item in value]
        return None if any(n is None for n in numbers_) else numbers_
    return _number(hp, value, integral=hp.type == "int")


def _number(hp: Hyperparameter, value: Any, *, integral: bool) -> float | int | None:
    number: float | int
    if isinstance(value, bool):
        return None
    if integral and isinstance(value, numbers.Integral):
        number = int(value)
    elif not integral and isinstance(value, numbers.Real):
        number = float(value)
    else:
        return None
    return number if hp.allows_number(number) else None


def check_keys(keys: Iterable[str], known: Iterable[str], prefix: str = "space") -> None:
    """Raises ExperimentError for the first key that is not known, with the nearest known name."""
    names = sorted(known)
    for key in keys:
        if key not in names:
            expected = checks.no_such("hyperparameter", key, names)
            hint = "" if "did you mean" in expected else "; one of build_model's is named by model_hyperparameters"
            raise ExperimentError(prefix, key, expected + hint)


def resolve(config: Mapping[str, Any], hyperparameters: Mapping[str, Hyperparameter]) -> dict[str, Any]:
    """Every hyperparameter's checked value: the config's, else the default under its optimizer.

    Keys of `config` that are not in `hyperparameters` are left out; use `check_keys` to refuse them.
    Raises ExperimentError for an illegal value. Resolving twice changes nothing.
    """
    optimizer = str(config.get("optimizer", TRAINER_HYPERPARAMETERS["optimizer"].default))
    return {
        name: check_value(hp, config[name]) if name in config else hp.default_for(optimizer)
        for name, hp in hyperparameters.items()
    }


def _by_name(*hyperparameters: Hyperparameter) -> dict[str, Hyperparameter]:
    return {hp.name: hp for hp in hyperparameters}


def _with_rules_defaults(*hyperparameters: Hyperparameter) -> dict[str, Hyperparameter]:
    """By name; which optimizer uses one, and with what default, stands in its rule."""

    def of_rules(name: str) -> dict[str, Any]:
        return {rule.name: rule.defaults[name] for rule in RULES.values() if name in rule.defaults}

    return _by_name(*(replace(hp, default_by_optimizer=of_rules(hp.name)) for hp in hyperparameters))


OPTIMIZERS = tuple(RULES)
LR_SCHEDULES = ("constant", "step", "exponential", "cosine", "plateau")
ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "elu", "gelu", "silu", "linear")
INITS = ("default", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal")

TRAINER_HYPERPARAMETERS: dict[str, Hyperparameter] = _with_rules_defaults(
    Hyperparameter("optimizer", "str", "adam", "the update rule, from torch.optim", choices=OPTIMIZERS),
    Hyperparameter(
        "lr",
        "float",
        1e-3,
        "learning rate at the end of the warm-up",
        low=0,
        open_low=True,
    ),
    Hyperparameter(
        "momentum",
        "float",
        0.9,
        "how much of a step the next one repeats",
        low=0,
        high=1,
        open_high=True,
    ),
    Hyperparameter("nesterov", "bool", False, "Nesterov's kind of momentum; ignored without a momentum above 0"),
    Hyperparameter(
        "weight_decay",
        "float",
        0.0,
        "L2 penalty, or decoupled from the gradient, as for adamw",
        low=0,
    ),
    Hyperparameter("beta1", "float", 0.9, "decay of the average of the gradients", low=0, high=1, open_high=True),
    Hyperparameter(
        "beta2",
        "float",
        0.999,
        "decay of the average of the squared gradients; rmsprop's alpha, adadelta's rho",
        low=0,
        high=1,
        open_high=True,
    ),
    Hyperparameter(
        "eps",
        "float",
        1e-8,
        "added to the denominator of the adaptive optimizers",
        low=0,
        open_low=True,
    ),
    Hyperparameter(
        "weight_decay_on",
        "str",
        "all",
        "what decays; matrices: weights of two axes or more, not biases and norms",
        choices=("all", "matrices"),
    ),
    Hyperparameter("batch_size", "int", 64, "samples of a batch", low=1),
    Hyperparameter("accumulate", "int", 1, "batches that one optimizer step is the mean of", low=1),
    Hyperparameter("lr_schedule", "str", "constant", "how the learning rate falls", choices=LR_SCHEDULES),
    Hyperparameter(
        "lr_decay",
        "float",
        0.5,
        "ratio of one decay: step, exponential, plateau",
        low=0,
        high=1,
        open_low=True,
    ),
    Hyperparameter("lr_step_epochs", "int", 10, "epochs that one lr_decay takes: step and exponential", low=1),
    Hyperparameter("lr_patience", "int", 0, "plateau: epochs no better that are forgiven before a decay", low=0),
    Hyperparameter("warmup_epochs", "float", 0.0, "epochs of linear warm-up, with every schedule", low=0),
    Hyperparameter(
        "label_smoothing",
        "float",
        0.0,
        "share of the target spread over all classes; classification, training loss only",
        low=0,
        high=1,
        open_high=True,
    ),
    Hyperparameter(
        "class_weight",
        "str",
        "none",
        "weights of classes in the training loss; balanced: by one over their share of the training targets",
        choices=("none", "balanced"),
    ),
    Hyperparameter("clip_norm", "float", 0.0, "largest global gradient norm; 0 is no clipping", low=0),
    Hyperparameter(
        "precision",
        "str",
        "float32",
        "mixed precision on CUDA; a CPU always computes in float32",
        choices=("float32", "bfloat16", "float16"),
    ),
)


def as_hyperparameter(name: str, value: Any) -> Hyperparameter:
    """A task's own; any other value is its default: of a bool, int, float or text one of that type, else an object."""
    if isinstance(value, Hyperparameter):
        return value
    types: dict[type, ValueType] = {bool: "bool", int: "int", float: "float", str: "str"}
    return Hyperparameter(name, types.get(type(value), "object"), value, "of the task")


GROUP_HYPERPARAMETERS = ("lr", "weight_decay", "momentum")
"""What a group of parameters may have of its own, as in `lr_head`."""


def group_hyperparameters(groups: Iterable[str]) -> dict[str, Hyperparameter]:
    """Of groups of these names; None, their default, is the value without a suffix."""
    found = {}
    for group in groups:
        for name in GROUP_HYPERPARAMETERS:
            whole, own = TRAINER_HYPERPARAMETERS[name], f"{name}_{group}"
            doc = f"{name} of the parameters in group {group}; unset: {name}"
            found[own] = replace(whole, name=own, default=None, doc=doc, default_by_optimizer={})
    return found


MAX_UNITS_OVERRIDES = 8
"""`units_1` to `units_8` exist."""

MLP_HYPERPARAMETERS: dict[str, Hyperparameter] = _by_name(
    Hyperparameter("hidden_layers", "int", 1, "number of hidden layers", low=0),
    Hyperparameter("hidden_units", "int", 128, "units of the first hidden layer", low=1),
    Hyperparameter(
        "shape",
        "str",
        "equal",
        "equal: every hidden layer alike; funnel: narrowing geometrically towards the outputs",
        choices=("equal", "funnel"),
    ),
    Hyperparameter("activation", "str", "relu", "of every hidden layer", choices=ACTIVATIONS),
    Hyperparameter("dropout", "float", 0.0, "dropout after every hidden layer", low=0, high=1, open_high=True),
    Hyperparameter("batch_norm", "bool", False, "batch normalisation before every activation"),
    Hyperparameter("init", "str", "default", "weights of every layer; default is PyTorch's", choices=INITS),
    *(
        Hyperparameter(f"units_{k}", "int", None, f"units of hidden layer {k}, instead of the shape's", low=1)
        for k in range(1, MAX_UNITS_OVERRIDES + 1)
    ),
)

CNN_HYPERPARAMETERS: dict[str, Hyperparameter] = {
    **_by_name(
        Hyperparameter(
            "conv_layers", "int", 2, "number of convolutions, each followed by a halving of the image", low=1
        ),
        Hyperparameter("filters", "int", 16, "of the first convolution; each next one has twice as many", low=1),
        Hyperparameter("kernel_size", "int", 3, "height and width of every convolution's kernel", low=1),
    ),
    **{name: MLP_HYPERPARAMETERS[name] for name in ("activation", "dropout", "batch_norm", "init")},
}
