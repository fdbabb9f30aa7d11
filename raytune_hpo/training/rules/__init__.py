"""The update rules by name. The next optimizer is a module here, its import and its line in RULES.

No torch at the top of these modules: what checks a config asks them for names and defaults before torch is needed.
"""

from __future__ import annotations

from raytune_hpo.training.rules.adadelta import Adadelta
from raytune_hpo.training.rules.adagrad import Adagrad
from raytune_hpo.training.rules.adam import Adam, AdamW
from raytune_hpo.training.rules.rmsprop import RMSprop
from raytune_hpo.training.rules.rule import Rule
from raytune_hpo.training.rules.sgd import SGD

RULES: dict[str, Rule] = {
    "sgd": SGD(),
    "adagrad": Adagrad(),
    "adadelta": Adadelta(),
    "rmsprop": RMSprop(),
    "adam": Adam(),
    "adamw": AdamW(),
}
