"""Whether a model.pt2 can be read: torch executes what is in such a file in more ways than one.

    pickles                 weights, constants and the example inputs, if the file asks for it or torch cannot read them
    texts that it evaluates sizes (sympy), guards, names of inputs (the code that it makes of the graph)

A file that `write_program` has written holds tensors, numbers and names. Any other is refused before torch sees it.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError, one_line

_CONFIGS = r"data/(weights/model_weights|constants/model_constants)_config\.json"
_KNOWN = re.compile(
    rf"[^/]+/({_CONFIGS}|data/weights/weight_\d+|data/constants/tensor_\d+|models/model\.json|"
    r"data/sample_inputs/model\.pt|archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id)"
)
#: What sizes are calculated with, as sympy writes them: torch has it evaluate the text, which takes anything.
_SYMBOL = re.compile(r"Symbol\('[suz]\d+'(, [a-z]+=(True|False))*\)")
_SIZE_WORDS = re.compile(
    r"[suz]\d+|\d+|True|False|Add|Mul|Pow|Integer|Rational|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilToInt|"
    r"FloorToInt|IntTrueDiv|Eq|Ne|Lt|Le|Gt|Ge"
)
#: Guards compare sizes of the inputs, which are L['args'][0]['a'] and so on, with each other and with numbers.
_INPUT = re.compile(r"\bL(\['\w+'\]|\[\d+\])+(\.(size|stride)\(\)\[\d+\]|\.storage_offset\(\))?")
_GUARD_WORDS = re.compile(rf"{_SIZE_WORDS.pattern}|and|or|not")
_NAME = re.compile(r"[\w.]*")
#: The structure of the inputs, whose keys become parameters of a function: no word of it may call anything.
_IN_SPEC = re.compile(r"[\w\s.,:\[\]{}\"\\]*")
_TARGET = re.compile(r"(torch|_operator|math)(\.\w+)+")
#: Of a program: keys whose texts are names, dicts whose keys are, and what no code is made of.
_NAMES = {"name", "parameter_name", "buffer_name", "tensor_constant_name", "forward_arg_names", "fqn"}
_NAMED = {"range_constraints", "tensor_values", "sym_int_values", "sym_float_values", "sym_bool_values"}
_FREE = {"metadata"}


def check_program(path: Path) -> None:
    """Raise ExperimentError for a file whose reading may execute what is in it."""
    try:
        with zipfile.ZipFile(path) as file:
            reason = _wrong(file)
    except (OSError, zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ExperimentError("model", str(path), f"cannot be read: {one_line(error)}") from error
    if reason is not None:
        raise ExperimentError("model", str(path), f"{reason}: reading it could execute anything, and export wrote none")


def _wrong(file: zipfile.ZipFile) -> str | None:
    for member in file.infolist():  # by member: of two of a name torch may read the other
        name = member.filename
        if not _KNOWN.fullmatch(name):
            return f"it holds {name}"
        if re.fullmatch(rf"[^/]+/{_CONFIGS}", name):
            found = json.loads(file.read(member))
            for entry in found["config"].values():
                if entry["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                    return f"its {name} asks for pickle"
            if any(_of_sizes(found)):
                return f"its {name} has sizes that are no numbers"
        if name.endswith("/models/model.json"):
            for reason in _of_program(json.loads(file.read(member))):
                return reason
        if name.endswith("/sample_inputs/model.pt") and not _are_tensors(file.read(member)):
            return f"its {name} is more than tensors"
    return None


def _are_tensors(data: bytes) -> bool:
    """Whether torch reads example inputs without pickle, which it falls back on, and as those of our programs."""
    import torch

    if not data:
        return True
    try:
        found = torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # whatever torch raises
        return False
    if not isinstance(found, tuple) or len(found) != 2 or found[1] != {} or not isinstance(found[0], tuple):
        return False
    return all(isinstance(item, torch.Tensor) for item in found[0])


def _of_program(program: Any) -> Iterator[str]:
    """What is wrong with a graph."""
    yield from _of_sizes(program)
    for text in program.get("guards_code", []):
        if not _made_of(_GUARD_WORDS, _INPUT.sub("1", text)):
            yield f"it has a guard {text[:60]!r}"
    if not all(value.keys() == {"as_tensor"} for value in program["graph_module"]["graph"]["inputs"]):
        yield "it takes other inputs than tensors"
    yield from _of_texts(program)


def _of_texts(data: Any, key: str = "") -> Iterator[str]:
    """Of names and of what is called."""
    if isinstance(data, dict):
        names = [name for name in data if not _NAME.fullmatch(name)]
        if key in _NAMED and names:
            yield f"it has a name {names[0][:60]!r}"
        for own, value in data.items():
            if own not in _FREE:
                yield from _of_texts(value, own)
    elif isinstance(data, list):
        for value in data:
            yield from _of_texts(value, key)
    elif isinstance(data, str):
        if key in _NAMES and not _NAME.fullmatch(data):
            yield f"it has a name {data[:60]!r}"
        if key == "target" and (not _TARGET.fullmatch(data) or "from_file" in data):
            yield f"it calls {data[:60]!r}"
        if key == "in_spec" and not _IN_SPEC.fullmatch(data):
            yield "the structure of its inputs is none of ours"
        if "__enum__" in data:
            yield "it asks for a module"


def _of_sizes(data: Any) -> Iterator[str]:
    for text in _expressions(data):
        if not _made_of(_SIZE_WORDS, _SYMBOL.sub("s0", text)):
            yield f"it has a size {text[:60]!r}"


def _made_of(words: re.Pattern[str], text: str) -> bool:
    """Whether a text holds these words, numbers and arithmetic alone."""
    return all(map(words.fullmatch, re.findall(r"[^\s+\-*/(),<>=]+", text)))


def _expressions(data: Any) -> Iterator[str]:
    """Texts that torch evaluates as sizes."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key == "expr_str":
                yield str(value)
            yield from _expressions(value)
    elif isinstance(data, list):
        for value in data:
            yield from _expressions(value)
