"""What is to be done about an exception that Python or torch raises in a task's method: a few words after it."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from raytune_hpo.training.data import Batch
from raytune_hpo.training.oddities import Reads
from raytune_hpo.training.trees import leaves

#: What torch says, and what is to be done about it.
_BY_TEXT = (
    (
        re.compile("each element in list of batch should be of equal size|expects each tensor to be equal"),
        "; samples differ in shape: write collate(self, samples), and pad them there",
    ),
    (re.compile("result type Float can't be cast"), "; y is of integers: compare with y.float()"),
    (
        re.compile(r"expected input\[\d+, \d+, \d+, (\d+)\] to have \1 channels"),
        "; x has its channels last: x.permute(0, 3, 1, 2) in preprocess puts them first",
    ),
)
#: What torch says where a layer does not take an integer, or a floating-point number.
_REFUSES_INTEGERS = re.compile(
    r"must have the same dtype|should be the same|expected scalar type|expected m1 and m2|"
    r"not implemented for '(Byte|Char|Short|Int|Long|Bool)'|Input dtype must be|only supports? floating"
)
_REFUSES_REALS = re.compile(r"tensor for argument #1 'indices'|expected one of.*Long|must be one-hot|index tensor")


def hint(error: BaseException, batch: Any) -> str:
    """ "; what to do", or nothing where it is not known. batch: what the method was given."""
    return _of_config(error) or _of_tensors(str(error), batch)


def _of_config(error: BaseException) -> str:
    """What is to be done where a config was looked up for what it does not hold."""
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None and trace.tb_frame.f_code.co_name == "preprocess":
            return f"; load is to answer it: Splits(..., statistics={{{error.args[0]!r}: ...}})"
        if trace is not None and isinstance(trace.tb_frame.f_locals.get("self"), Reads):
            return f"; the config has none: give model_hyperparameters its default, {{{error.args[0]!r}: ...}}"
    if isinstance(error, AttributeError) and isinstance(error.obj, Reads):
        return f"; the config is a dict: write config[{error.name!r}]"
    return ""


def _of_tensors(text: str, batch: Any) -> str:
    """Of an exception of torch's, as far as its text and the batch tell."""
    for pattern, to_do in _BY_TEXT:
        if pattern.search(text):
            return to_do
    if isinstance(batch, Batch) and "not Batch" in text:
        return "; a batch is a Batch(x, y): give the model batch.x"
    x = batch.x if isinstance(batch, Batch) else batch[0] if isinstance(batch, tuple) and batch else batch
    dtypes = {str(leaf.dtype).removeprefix("torch."): leaf for leaf in leaves(x) if isinstance(leaf, Tensor)}
    integers = [name for name, leaf in dtypes.items() if not leaf.is_floating_point()]
    if integers and _REFUSES_INTEGERS.search(text):
        return f"; x is {integers[0]}: convert it in preprocess(self, x, statistics), as x.float() does"
    reals = [name for name, leaf in dtypes.items() if leaf.is_floating_point()]
    if reals and _REFUSES_REALS.search(text):
        return f"; x is {reals[0]}: an embedding takes integers, so keep them integers in load and preprocess"
    return ""
