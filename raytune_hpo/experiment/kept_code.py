"""A run's copies of its code: written, read, added to, compared with today's files.

keep(Code, RUN_DIR)      RUN_DIR/source, or source-2 and so on for a session with other code
record_more(source)      what driver and workers have imported since
recorded_code(RUN_DIR)   when the run is taken up again, or asked for a model
differing(Code)          which of its files are not today's
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath

from raytune_hpo.atomic import write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import copied_modules
from raytune_hpo.experiment.copied_modules import FILE_MODULE_PREFIX
from raytune_hpo.experiment.loading import import_by_name
from raytune_hpo.experiment.project import (
    FOLDER,
    MANIFEST,
    MOST_BYTES,
    Code,
    SourceFile,
    digest_of,
    found_in,
    texts_of,
    version_of,
)
from raytune_hpo.owned import OWN_FILE, make_folder, opened, read_bytes


def write(code: Code, folder: Path) -> None:
    """Raises ExperimentError where a link stands in the way."""
    make_folder(folder)
    for path, text in code.documents().items():
        for above in reversed(PurePosixPath(path).parents[:-1]):
            make_folder(folder / above)
        write_atomically(folder / path, text, OWN_FILE)


def keep(code: Code, run_path: Path) -> tuple[Path, Code]:
    """Where the run holds this code, and as what: its newest copy, or a further one where that is another version.

    It is the same version where no file is another: a process may have imported more of it.
    """
    folder = copies(run_path)[-1]
    if not (folder / MANIFEST).is_file():  # of before there was more in it than the experiment file
        write(code, folder)
        return folder, code
    before = read(folder)
    known = {file.path: file.digest for file in before.files}
    if before.root == code.root and all(known.get(file.path, file.digest) == file.digest for file in code.files):
        more = tuple(file for file in code.files if file.path not in known)
        if more:
            before = replace(before, files=(*before.files, *more), texts={**before.texts, **code.texts})
            write(before, folder)
        return folder, before
    folder = run_path / f"{FOLDER}-{len(copies(run_path)) + 1}"
    write(code, folder)
    return folder, code


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
    if type(code.left_out) is not int:
        raise ValueError("left_out is no number")
    others = {*sys.stdlib_module_names, "raytune_hpo", "__main__", ""}
    if any(not file.path.endswith(".py") or file.module.partition(".")[0] in others for file in code.files):
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
    if folder.is_symlink():
        raise ValueError("the copy is a link")
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
    return Code(str(Path(entry).parent), file.path, (".",), (file,), version_of([file]), texts={file.path: text})


def record_more(folder: Path) -> None:
    """Add the project's modules that this process has imported since. Several processes may, at the same time."""
    try:
        code = read(folder)
        known = {file.module for file in code.files}
        found = {name: at for name, at in found_in(code.root).items() if name not in known}
        if not found:
            return
        with os.fdopen(opened(folder / ".lock", os.O_WRONLY | os.O_CREAT), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            code = read(folder)
            known = {file.module for file in code.files}
            found = {name: at for name, at in found.items() if name not in known}
            room = MOST_BYTES - sum(map(len, code.texts.values()))
            files, texts, left_out = texts_of(code.root, found, room)
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


def become(name: str, source: Path) -> None:
    """Let the module of that name, which is being imported, be the copy in `source`. See STAND_IN."""
    copied_modules.install(read(source))
    import_by_name(name)
