"""Classes, functions and other objects in a search space: the text that stands for each wherever a config is recorded.

Journals, tables, JSON and CSV hold the text; the user's code gets the object (`with_objects`). A class or function is
named by where it is imported from, "torch.nn.modules.activation:ReLU", an option of `Choice({"small": ...})` by the
name it has there, a constant by its type and a digest of what is in it, "ndarray [3] float64 sha1:5ba93c9d". Nothing is
ever made from such a text: objects come from the experiment as it is written.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

#: path -> text that is recorded -> object.
Objects = Mapping[str, Mapping[str, Any]]
DIGEST = 8  # letters
GIVE_A_NAME = 'has no name that it could be recorded by: give it one, Choice({"name": ...})'
NOT_KNOWN = "is an object that is known by its name alone: pass the space again, resume(run_dir, space=...)"
#: Beginning of the module names of experiment files, which are loaded by their path.
_OF_FILE = "raytune_hpo_file_"


class Gone(Enum):
    """In place of an object that is known by its text alone."""

    GONE = "(not here)"


GONE = Gone.GONE


@dataclass(frozen=True)
class Named:
    """An object in a space's tree, with the text that is recorded of it. value: GONE where only that is known."""

    text: str
    value: Any


def is_named_by_import(value: Any) -> bool:
    """Whether it is a class or function: what has a name of its own."""
    return isinstance(value, type) or (callable(value) and isinstance(getattr(value, "__name__", None), str))


def import_name(value: Any) -> str | None:
    """ "module:Name" of a class or function; None of a lambda, a local one and whatever cannot be found by a name.

    Of the file that is the program, or that was loaded by its path, the module is the file's name: the same whichever
    of the two it is.
    """
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not is_named_by_import(value) or not isinstance(name, str) or "<" in name:
        return None
    module = getattr(value, "__module__", None)
    if not isinstance(module, str) or _found(module, name) is not value:
        # Functions of C have a name of their own only: torch.tanh, np.tanh.
        name = str(value.__name__)
        holders = [m for m, there in list(sys.modules.items()) if there is not None and _found(m, name) is value]
        if not holders:
            return None
        module = min(holders, key=lambda m: (m.count("."), len(m), m))
    return f"{_module_name(module)}:{name}"


def is_import_name(text: str) -> bool:
    """Whether it looks like what `import_name` answers."""
    return re.fullmatch(r"[^\W\d][\w.]*:[^\W\d][\w.]*", text) is not None


def _found(module: str, name: str) -> Any:
    node: Any = sys.modules.get(module)
    for part in name.split("."):
        node = (
            getattr(node, "__dict__", {}).get(part, None) if not isinstance(node, type) else getattr(node, part, None)
        )
    return node


def _module_name(module: str) -> str:
    if module.startswith(_OF_FILE):
        return module.removeprefix(_OF_FILE)
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None and spec.name != "__main__":  # python -m package.module
        return str(spec.name)
    return Path(file).stem if file else module


def described(value: Any) -> str:
    """A constant that is no JSON value, in words: its import name, or its type and a digest of its content.

    Of an array also its shape and the type of its numbers. An object that cannot be pickled has no digest.
    """
    name = import_name(value)
    if name is not None:
        return name
    kind = type(value).__name__
    data = _array(value)
    if data is not None and not data.dtype.hasobject:
        content = hashlib.sha1(data.tobytes(), usedforsecurity=False)
        return f"{kind} {list(value.shape)} {_number_type(value)} sha1:{content.hexdigest()[:DIGEST]}"
    try:
        content = hashlib.sha1(_pickled(value), usedforsecurity=False)
    except Exception:  # whatever a user's class does in there
        return kind
    return f"{kind} sha1:{content.hexdigest()[:DIGEST]}"


class _Pickler(pickle.Pickler):
    """Tensors by what is in them: torch pickles them otherwise each time."""

    def reducer_override(self, value: Any) -> Any:
        data = _array(value.data) if type(value).__module__ == "torch.nn.parameter" else _array(value)
        return NotImplemented if data is None or data.dtype.hasobject else (bytes, (data.tobytes(),))


def _pickled(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=4).dump(value)
    return file.getvalue()


def _array(value: Any) -> Any:
    """A numpy array, or a tensor of torch's as one; None of anything else."""
    if type(value).__module__ == "torch" and hasattr(value, "detach"):
        try:
            return value.detach().cpu().contiguous().flatten().view(sys.modules["torch"].uint8).numpy()
        except (RuntimeError, TypeError):  # sparse, quantised, without numbers
            return None
    return (
        value if type(value).__module__ == "numpy" and hasattr(value, "tobytes") and hasattr(value, "shape") else None
    )


def _number_type(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def kind_of(text: str) -> str:
    """Of a described constant, what it is without its content."""
    return text.partition(" sha1:")[0]


def is_exact(text: str) -> bool:
    """Whether equal content has an equal description: that of arrays, not what a pickle happens to look like."""
    return " sha1:" in text and "[" in text


def with_objects(config: Mapping[str, Any], objects: Objects, prefix: str = "") -> dict[str, Any]:
    """A recorded config as the user's code gets it: a copy, with objects in the places of their texts."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        named = objects.get(f"{prefix}{key}")
        if named is not None:
            out[key] = named.get(value, value) if isinstance(value, str) else value
        elif isinstance(value, Mapping):
            out[key] = with_objects(value, objects, f"{prefix}{key}.")
        else:
            out[key] = value
    return out


def text_for(value: Any, named: Mapping[str, Any]) -> Any:
    """What stands for `value` in a config: its text in `named`, also where that is shortened; else itself."""
    for text, own in named.items():
        if own is value:
            return text
    if isinstance(value, str):
        return {short: text for text, short in short_names(named).items()}.get(value, value)
    name = import_name(value)
    return name if name in named else value


def is_json(value: Any) -> bool:
    """Whether a value can be written as JSON."""
    if isinstance(value, list | tuple):
        return all(map(is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(is_json, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


def equal(a: Any, b: Any) -> bool:
    """Whether two values of a config are the same; objects of which that cannot be said are so if they are one."""
    if a is b:
        return True
    try:
        return bool(a == b)
    except Exception:  # of arrays the truth of several
        return False


def short_names(named: Iterable[str], besides: Iterable[Any] = ()) -> dict[str, str]:
    """Text -> what people are shown: of "module:Name" the name, where nothing else is shown so.

    besides: other options, as they are shown.
    """
    last = {text: text.rpartition(":")[2].rpartition(".")[2] for text in named}
    shown = [*last.values(), *map(str, besides)]
    return {text: short if shown.count(short) == 1 else text for text, short in last.items()}


def shown_options(options: Sequence[Any], named: Collection[str]) -> list[str]:
    """Options as people are shown them; named: those that are texts of objects."""
    is_named = [isinstance(option, str) and option in named for option in options]
    short = short_names(named, [o for o, named_ in zip(options, is_named, strict=True) if not named_])
    return [short[o] if named_ else str(o) for o, named_ in zip(options, is_named, strict=True)]


def shown_texts(space: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Of a space as JSON: path -> recorded text of an object -> what people are shown."""
    found = {}
    for path, parameter in space["parameters"].items():
        named, options = parameter.get("objects"), parameter.get("options")
        if _are_texts(named) and isinstance(options, list):  # a stranger's run may say anything
            shown = zip(options, shown_options(options, named), strict=True)
            found[path] = {option: text for option, text in shown if isinstance(option, str)}
    return found


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
