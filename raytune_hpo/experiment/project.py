"""The project's own code that a run trains with: found, copied into the run, compared with today's.

    loaded_code()  -> Code  -> RUN_DIR/source      when a run begins: what this process has imported
    record_more(RUN_DIR/source)                    what driver and workers have imported since
    recorded_code(RUN_DIR)  -> Code                when it is taken up again, or asked for a model
    differing(Code)                                which of its files are not today's

A project is the folder that the experiment file's package, repository or folder begins in. What is installed
(site-packages, the standard library, this package) is no part of it, nor is anything that is no Python text.
A run that goes on with other code than it was begun with has a further copy, source-2 and so on.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import ModuleType

from raytune_hpo.atomic import write_atomically
from raytune_hpo.errors import PACKAGE, ExperimentError
from raytune_hpo.experiment import copied_modules
from raytune_hpo.experiment.copied_modules import FILE_MODULE_PREFIX
from raytune_hpo.experiment.loading import as_read, import_by_name
from raytune_hpo.owned import OWN_FILE, make_folder, opened, read_bytes

MOST_BYTES = 20 * 2**20
MANIFEST = ".manifest.json"
FOLDER = "source"
#: In the copy, an import path for processes that a trial starts: they know experiment files by name alone.
BY_NAME = ".by_name"
STAND_IN = b"""from pathlib import Path

from raytune_hpo.experiment.project import become

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


def become(name: str, source: Path) -> None:
    """Let the module of that name, which is being imported, be the copy in `source`. See STAND_IN."""
    copied_modules.install(read(source))
    import_by_name(name)


# Found ---------------------------------------------------------------------------------------------


def loaded_code(entry: Path | None) -> Code:
    """The project's modules that this process has imported. entry: its experiment file or script."""
    entry = _script() if entry is None else entry.resolve()
    if entry is not None and _installed(str(entry)):
        entry = None
    root = _root_of(entry)
    found = _found_in(root)
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if entry is not None:
        as_main = main is not None and main.name != "__main__" and main.origin == str(entry)
        name = main.name if main is not None and as_main else FILE_MODULE_PREFIX + entry.stem
        found.setdefault(name, (str(entry), False))
    files, texts, left_out = _read(root, found, MOST_BYTES)
    inside = root.rstrip(os.sep) + os.sep
    places = [os.path.abspath(path) for path in sys.path if path]
    paths = [os.path.relpath(place, root) for place in places if f"{place}{os.sep}".startswith(inside)]
    if entry is not None:
        paths.insert(0, os.path.relpath(entry.parent, root))
    paths = [p for p in dict.fromkeys(paths) if not _installed(os.path.join(root, p, "x.py"))]
    here = None if entry is None else os.path.relpath(entry, root)
    return Code(root, here, tuple(paths), tuple(files), _version(files), left_out, texts)


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
        return os.getcwd()
    folder = entry.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    for above in (folder, *folder.parents):
        if any((above / mark).exists() for mark in MARKS) and above not in (Path.home(), Path("/")):
            return str(above)
    return str(folder)


def _found_in(root: str) -> dict[str, tuple[str, bool]]:
    """module name -> (file, whether it is a package) of the modules from under a folder."""
    inside, found = root.rstrip(os.sep) + os.sep, {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
        if not isinstance(file, str) or not file.startswith(inside) or not file.endswith(".py"):
            continue
        if name not in ("__main__", "__mp_main__") and not _installed(file):
            found[name] = (file, hasattr(module, "__path__"))
    return found


@functools.cache
def _places() -> tuple[str, ...]:
    """Where what is installed lies."""
    known = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple({path.rstrip(os.sep) + os.sep for path in (*known, PACKAGE) if path})


def _installed(file: str) -> bool:
    return file.startswith(_places()) or "/site-packages/" in file or "/dist-packages/" in file


def _read(
    root: str, found: Mapping[str, tuple[str, bool]], room: int
) -> tuple[list[SourceFile], dict[str, bytes], int]:
    """The files, their texts, and how many there was no room for."""
    files: list[SourceFile] = []
    texts: dict[str, bytes] = {}
    left_out = 0
    for name, (file, package) in sorted(found.items()):
        try:
            text = as_read(file) or Path(file).read_bytes()
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


def _version(files: list[SourceFile]) -> str:
    listed = sorted((file.path, file.digest) for file in files)
    return digest_of(json.dumps(listed).encode())


# Kept ----------------------------------------------------------------------------------------------


def write(code: Code, folder: Path) -> None:
    make_folder(folder)
    for path, text in code.documents().items():
        target = folder / path
        target.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        write_atomically(target, text, OWN_FILE)


def keep(code: Code, run_path: Path) -> Path:
    """Where the run holds this code: its newest copy, or a further one where that is another version."""
    folder = copies(run_path)[-1]
    if not (folder / MANIFEST).is_file():  # of before there was more in it than the experiment file
        write(code, folder)
    elif read(folder).version != code.version:
        folder = run_path / f"{FOLDER}-{len(copies(run_path)) + 1}"
        write(code, folder)
    return folder


def copies(run_path: Path) -> list[Path]:
    """The folders of a run's versions of the code, oldest first."""
    found = [run_path / FOLDER]
    while (further := run_path / f"{FOLDER}-{len(found) + 1}").is_dir():
        found.append(further)
    return found


def is_described(run_path: Path) -> bool:
    """Whether it is known what is in the run's copy, and which version of the code that is."""
    return (run_path / FOLDER / MANIFEST).is_file()


def read(folder: Path) -> Code:
    """What `write` wrote. Raises ExperimentError where it is damaged, or is not within the folder."""
    try:
        if folder.is_symlink():
            raise ValueError(f"{folder} is a link")
        data = json.loads(read_bytes(folder / MANIFEST))
        files = tuple(SourceFile(**file) for file in data.pop("files"))
        code = Code(**{**data, "paths": tuple(data["paths"]), "files": files})
        _check(code)
        texts = {file.path: _text(code, file, folder) for file in files}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ExperimentError("run directory", str(folder / MANIFEST), f"is damaged: {error}") from error
    for file in files:
        if digest_of(texts[file.path]) != file.digest:
            expected = "was changed: a run's copy of its code is what it has trained with; --code current takes today's"
            raise ExperimentError("run directory", str(folder / file.path), expected)
    return replace(code, texts=texts)


def _check(code: Code) -> None:
    """Raises ValueError for what we have not written."""
    texts = [code.root, code.version, *code.paths, *(v for f in code.files for v in (f.module, f.path, f.digest))]
    if not all(isinstance(text, str) for text in texts) or not isinstance(code.entry, str | None):
        raise ValueError("a path is no text")
    if not os.path.isabs(code.root):
        raise ValueError(f"{code.root} is not absolute")
    for path in (*code.paths, *(file.path for file in code.files)):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path} leaves the project")
    if any(not file.path.endswith(".py") or file.module in sys.stdlib_module_names for file in code.files):
        raise ValueError("it holds what is no module of a project")


def _text(code: Code, file: SourceFile, folder: Path) -> bytes:
    """What the copy holds, or the original where that is still the same: a power cut may have torn a fresh copy."""
    found = _copy(folder, file.path)
    text = found.read_bytes() if found.is_file() else b""
    original = Path(code.original(file))
    if digest_of(text) == file.digest or not original.is_file() or original.stat().st_size > MOST_BYTES:
        return text
    today = original.read_bytes()
    return today if digest_of(today) == file.digest else text


def _copy(folder: Path, path: str) -> Path:
    """A file in the folder, no link. Raises ValueError."""
    place = folder
    for part in PurePosixPath(path).parts:
        place /= part
        if place.is_symlink():
            raise ValueError(f"{path} is a link")
    return place


def recorded_code(run_path: Path, entry: str | None) -> Code | None:
    """The code that the run trains with, its newest version; None where there is no copy of any.

    entry: the experiment file, for runs of before there was more in the copy than that.
    """
    folder = copies(run_path)[-1]
    if (folder / MANIFEST).is_file():
        return read(folder)
    copy = None if entry is None else folder / Path(entry).name
    if copy is None or entry is None or copy.is_symlink() or not copy.is_file():
        return None
    text = copy.read_bytes()
    name = FILE_MODULE_PREFIX + Path(entry).stem
    file = SourceFile(name, Path(entry).name, package=False, digest=digest_of(text))
    return Code(str(Path(entry).parent), file.path, (".",), (file,), _version([file]), texts={file.path: text})


def record_more(folder: Path) -> None:
    """Add the project's modules that this process has imported since. Several processes may, at the same time."""
    try:
        code = read(folder)
        known = {file.module for file in code.files}
        found = {name: at for name, at in _found_in(code.root).items() if name not in known}
        if not found:
            return
        with os.fdopen(opened(folder / ".lock", os.O_WRONLY | os.O_CREAT), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            code = read(folder)
            known = {file.module for file in code.files}
            found = {name: at for name, at in found.items() if name not in known}
            room = MOST_BYTES - sum(map(len, code.texts.values()))
            files, texts, left_out = _read(code.root, found, room)
            more = replace(code, files=(*code.files, *files), texts=texts, left_out=code.left_out + left_out)
            write(more, folder)
    except (OSError, ExperimentError):  # the run goes on without
        return


def differing(code: Code) -> dict[str, str]:
    """Files that are not today's: path -> "has changed" or "is gone"."""
    found = {}
    for file in code.files:
        original = Path(code.original(file))
        # What a stranger's run names is compared and nothing else: no device, nothing without an end.
        if not original.is_file() or original.stat().st_size > MOST_BYTES:
            found[file.path] = "is gone"
        elif digest_of(original.read_bytes()) != file.digest:
            found[file.path] = "has changed"
    return found
