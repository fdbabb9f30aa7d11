"""The project's own code that a run trains with: what this process has imported of it when the run begins.

A project is the folder that the experiment file's package, repository or folder begins in. What is installed
(site-packages, the standard library, this package) is no part of it, nor is anything that is no Python text. A run's
copy of it is `kept_code`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType

from raytune_hpo.errors import PACKAGE
from raytune_hpo.experiment.copied_modules import FILE_MODULE_PREFIX, text_of
from raytune_hpo.experiment.loading import as_read

MOST_BYTES = 20 * 2**20
MANIFEST = ".manifest.json"
FOLDER = "source"
#: In the copy, an import path for processes that a trial starts: they know experiment files by name alone.
BY_NAME = ".by_name"
STAND_IN = b"""from pathlib import Path

from raytune_hpo.experiment.kept_code import become

become(__name__, Path(__file__).parents[1])
"""
#: What stands where a project begins.
MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg")


@dataclass(frozen=True)
class SourceFile:
    """module: its name; path: within the project; package: whether it is an __init__; digest: of its content."""

    module: str
    path: str
    package: bool
    digest: str


@dataclass(frozen=True)
class Code:
    """root: the project's folder, as it was; entry: the experiment file, or the script, within it, None for a prompt;
    paths: the import paths within it; texts: path -> content; left_out: files beyond MOST_BYTES.

    version: says which code it is, as it was when the run took it up.
    """

    root: str
    entry: str | None
    paths: tuple[str, ...]
    files: tuple[SourceFile, ...]
    version: str = ""
    left_out: int = 0
    texts: Mapping[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    def original(self, file: SourceFile) -> str:
        """Where the file was when the run began."""
        return os.path.join(self.root, file.path)

    def import_paths(self) -> list[str]:
        return [os.path.normpath(os.path.join(self.root, path)) for path in self.paths]

    def documents(self) -> dict[str, bytes]:
        """What `source` is to hold: the files, and what is known of them."""
        manifest = {name: value for name, value in asdict(self).items() if name != "texts"}
        known = {MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode()}
        files = (file.module for file in self.files if file.module.startswith(FILE_MODULE_PREFIX))
        return {**self.texts, **known, **{f"{BY_NAME}/{name}.py": STAND_IN for name in files}}


# Found ---------------------------------------------------------------------------------------------


def loaded_code(entry: Path | None) -> Code:
    """The project's modules that this process has imported. entry: its experiment file or script."""
    entry = _script() if entry is None else entry.resolve()
    if entry is not None and _installed(str(entry)):
        entry = None
    root = _root_of(entry)
    found = found_in(root)
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if entry is not None:
        as_main = main is not None and main.name != "__main__" and main.origin == str(entry)
        name = main.name if main is not None and as_main else FILE_MODULE_PREFIX + entry.stem
        found.setdefault(name, (str(entry), False))
    files, texts, left_out = texts_of(root, found, MOST_BYTES)
    inside = root.rstrip(os.sep) + os.sep
    places = [_without_links(os.path.abspath(path)) for path in sys.path if path]
    paths = [os.path.relpath(place, root) for place in places if f"{place}{os.sep}".startswith(inside)]
    if entry is not None:
        paths.insert(0, os.path.relpath(entry.parent, root))
    paths = [p for p in dict.fromkeys(paths) if not _installed(os.path.join(root, p, "x.py"))]
    here = None if entry is None else os.path.relpath(entry, root)
    return Code(root, here, tuple(paths), tuple(files), version_of(files), left_out, texts)


def _script() -> Path | None:
    """The user's script that this process runs; None in a prompt, a notebook or an installed command."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or _installed(os.path.abspath(file)):
        return None
    path = Path(file).resolve()
    return path if path.is_file() else None


def _root_of(entry: Path | None) -> str:
    """The folder that a project begins in; of no file, the working directory."""
    if entry is None:
        return os.path.realpath(os.getcwd())
    folder = entry.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    for above in (folder, *folder.parents):
        if any((above / mark).exists() for mark in MARKS) and above not in (Path.home().resolve(), Path("/")):
            return str(above)
    return str(folder)


def found_in(root: str) -> dict[str, tuple[str, bool]]:
    """module name -> (file, whether it is a package) of the modules from under a folder."""
    inside, found = root.rstrip(os.sep) + os.sep, {}  # both without links
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
        if not isinstance(file, str) or not file.endswith(".py") or _installed(file):
            continue
        file = os.path.join(_without_links(os.path.dirname(file)), os.path.basename(file))
        if not file.startswith(inside):
            continue
        if name not in ("__main__", "__mp_main__") and not _installed(file):
            found[name] = (file, hasattr(module, "__path__"))
    return found


@functools.cache
def _without_links(folder: str) -> str:
    return os.path.realpath(folder)


@functools.cache
def _places() -> tuple[str, ...]:
    """Where what is installed lies."""
    known = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple({path.rstrip(os.sep) + os.sep for path in (*known, PACKAGE) if path})


def _installed(file: str) -> bool:
    return file.startswith(_places()) or "/site-packages/" in file or "/dist-packages/" in file


def texts_of(
    root: str, found: Mapping[str, tuple[str, bool]], room: int
) -> tuple[list[SourceFile], dict[str, bytes], int]:
    """The files, their texts, and how many there was no room for."""
    files: list[SourceFile] = []
    texts: dict[str, bytes] = {}
    left_out = 0
    for name, (file, package) in sorted(found.items()):
        try:
            text = text_of(file) or as_read(file) or Path(file).read_bytes()
        except OSError:
            continue
        path = Path(os.path.relpath(file, root)).as_posix()
        room -= len(text) if path not in texts else 0
        if room < 0:
            left_out += 1
            continue
        texts[path] = text
        files.append(SourceFile(name, path, package, digest_of(text)))
    return files, texts, left_out


def digest_of(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def version_of(files: list[SourceFile]) -> str:
    listed = sorted((file.path, file.digest) for file in files)
    return digest_of(json.dumps(listed).encode())
