"""A run's experiment, taken up again: with the code that it has trained with, in the folder that it was begun in.

    with reopened(RunDirectory.open(...)) as again:     imports, working directory: the run's
        again.experiment.resolved.task ...

Every verb that runs a run's own code does so in this context; those that only show it never import any.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import copied_modules, kept_code, project
from raytune_hpo.experiment.chosen import OBJECT
from raytune_hpo.experiment.copied_modules import FILE_MODULE_PREFIX
from raytune_hpo.experiment.file import experiment_in
from raytune_hpo.experiment.loading import import_first
from raytune_hpo.experiment.project import Code
from raytune_hpo.experiment.references import found_by
from raytune_hpo.experiment.written import Experiment, as_recorded
from raytune_hpo.listeners.registry import listener_called, recorded_names
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import nest
from raytune_hpo.space.named import NOT_KNOWN, Named, is_import_name
from raytune_hpo.space.parameters import Choice
from raytune_hpo.storage.run_directory import RunDirectory, whoever

CodeChoice = Literal["recorded", "current"]
CHOICES = ("recorded", "current")
SHOWN = 3  # files


@dataclass
class Reopened:
    """experiment: the run's; code: what it trains with from here on; notices: what people should know of that."""

    experiment: Experiment
    code: Code
    notices: list[str] = field(default_factory=list)

    def say(self) -> Experiment:
        """The experiment, after the notices are printed on stderr."""
        for notice in self.notices:
            print(f"raytune-hpo: {notice}", file=sys.stderr)
        return self.experiment


@contextlib.contextmanager
def reopened(
    directory: RunDirectory,
    given: Mapping[str, Any] | None = None,
    *,
    code: CodeChoice = "recorded",
    moves: bool = True,
) -> Iterator[Reopened]:
    """See the module.

    given: objects that stand in for what is recorded (a task, a searcher, a scheduler); those left out the experiment
    file makes anew. code: "recorded" is the run's own copy where today's files differ, "current" today's. moves: to the
    folder in which the run began, while the context lasts; else the process stays as it is, but for modules.
    Raises ExperimentError where that cannot be.
    """
    checks.one_of("code", code, CHOICES)
    description = directory.description()
    given = {name: value for name, value in (given or {}).items() if value is not None}
    entry = description.get("entry")
    notices = [*_of_strangers(directory, description)]
    with contextlib.ExitStack() as stack:
        if moves:
            notices += stack.enter_context(_where_it_began(description.get("cwd")))
        paths = list(sys.path)
        copy = None if "task" in given else _copy_of(directory, description)
        changed = {} if copy is None else kept_code.differing(copy)
        if copy is None and "cwd" in description and "task" not in given and code != "current":
            expected = "holds no copy of the code that the run trains with; --code current takes today's"
            raise ExperimentError("run directory", str(directory.path), expected)
        if copy is not None and code == "current":
            _check_all_there(copy, changed)
        elif copy is not None:
            _check_files(copy, description["experiment"])
            if changed:
                notices.append(_told(changed))
                stack.enter_context(copied_modules.in_use(copy))
        if copy is not None and (code == "current" or not changed):
            stack.enter_context(copied_modules.originals_in_use(copy))
        if copy is None and entry is not None and Path(entry).is_file():
            import_first(str(Path(entry).parent))
        experiment, told = _written(directory, description, given, copy)
        notices += told
        if copy is None or (code == "current" and changed):
            copy = project.loaded_code(None if entry is None or not Path(entry).is_file() else Path(entry))
        if not moves:
            sys.path[:] = [path for path in sys.path if path in paths]
        yield Reopened(experiment, copy, notices)


def _copy_of(directory: RunDirectory, description: Mapping[str, Any]) -> Code | None:
    entry = description.get("entry") or description["experiment"]["task"].get("file")
    return kept_code.recorded_code(directory.path, entry)


def _of_strangers(directory: RunDirectory, description: Mapping[str, Any]) -> Iterator[str]:
    """Whose code is about to run, where it is not this user's of this machine."""
    made, here = description.get("made_by"), whoever()
    owner = directory.description_path.stat().st_uid
    if owner == os.getuid() and made == here:
        return
    entry = Path(description.get("entry") or "").name
    whose = "what runs now is its code" + (f", {entry}" if entry else "")
    if isinstance(made, Mapping):
        yield f"this run was made by {made.get('user')} on {made.get('host')}: {whose}"
    elif owner == os.getuid():
        yield f"this run does not say who made it: {whose}"
    else:
        yield f"this run is of user {owner}: {whose}"


@contextlib.contextmanager
def _where_it_began(folder: Any) -> Iterator[list[str]]:
    """The run's working directory, for relative paths in its code."""
    if not isinstance(folder, str) or folder == os.getcwd():
        yield []
        return
    if not os.path.isdir(folder):
        yield [f"{folder}, in which the run was begun, is gone: relative paths are taken from {os.getcwd()}"]
        return
    with contextlib.chdir(folder):
        yield []


def _check_all_there(code: Code, changed: Mapping[str, str]) -> None:
    gone = [path for path, why in changed.items() if why == "is gone"]
    if gone:
        raise ExperimentError("--code", "current", f"{os.path.join(code.root, gone[0])} is gone; leave it out")


def _check_files(code: Code, recorded: Mapping[str, Any]) -> None:
    """Raise ExperimentError for a file that is named and is not the run's: no run has others executed."""
    own = {code.original(file) for file in code.files}
    named = {"task": recorded["task"], **{name: recorded[name].get("from") for name in ("searcher", "scheduler")}}
    for name, reference in named.items():
        if isinstance(reference, Mapping) and "file" in reference and reference["file"] not in own:
            raise ExperimentError(name, reference["file"], "is not in the run's copy of its code (--code current)")


def _told(changed: Mapping[str, str]) -> str:
    listed = ", ".join(f"{path} {why}" for path, why in list(changed.items())[:SHOWN])
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return f"since the run was begun {listed}{more}: the run's own copy is used (--code current takes today's)"


def _written(
    directory: RunDirectory, description: Mapping[str, Any], given: dict[str, Any], copy: Code | None
) -> tuple[Experiment, list[str]]:
    """What was an object in the experiment, and is not given, its file makes anew. Also what people should know of
    it."""
    recorded = description["experiment"]
    with as_recorded("space", recorded["space"]):
        space = SearchSpace.from_json(recorded["space"])
    told: list[str] = []
    objects = [name for name in ("searcher", "scheduler") if recorded[name]["name"] == OBJECT]
    objects += ["task"] if "made" in recorded["task"] else []
    objects += ["space"] if space.gone else []
    listeners = recorded.get("listeners", [])
    named = recorded_names(listeners)
    objects += ["listeners"] if len(named) < len(listeners) else []
    missing = [name for name in objects if name not in given]
    made = None
    if missing and description.get("entry") is not None and (copy is not None or Path(description["entry"]).is_file()):
        try:
            made = experiment_in(Path(description["entry"]))
        except ExperimentError as error:
            if "task" in missing:
                expected = f"cannot be made again ({error}); pass it: resume(run_dir, task=...)"
                raise ExperimentError("task", recorded["task"]["made"], expected) from error
            if missing != ["listeners"]:
                raise
            # Listeners follow a run; that they cannot be made again is no reason not to go on with it.
            print(f"raytune-hpo: without the experiment's listeners: {error}", file=sys.stderr)
    if made is not None:
        given = {**given, **{name: getattr(made.resolved if name == "space" else made, name) for name in missing}}
        if "space" in missing:
            told += space.with_objects_of(made.resolved.space).changed_since(made.resolved.space)
        for name in ("searcher", "scheduler"):
            _check_same(name, recorded[name], getattr(made.resolved, name).described if name in missing else None)
    if "listeners" not in given:
        given = {**given, "listeners": _that_can_be(named)}
    if space.gone and "space" not in given:
        given = {**given, "space": _imported(space)}
    return Experiment.from_json(recorded, given=given), told


def _that_can_be(names: list[str]) -> list[str]:
    """The listeners of these names whose libraries are here: a run goes on without the others."""
    found = []
    for name in names:
        try:
            listener_called(name, "listeners")
        except ExperimentError as error:
            print(f"raytune-hpo: without the listener: {error}", file=sys.stderr)
        else:
            found.append(name)
    return found


def _imported(space: SearchSpace) -> SearchSpace:
    """Where there is no experiment file: the classes and functions that can be found by their names alone.

    Raises ExperimentError for any other object.
    """
    tree: dict[str, Any] = {}
    for path in space.gone:
        texts = list(space.objects[path])
        if not all(map(is_import_name, texts)):
            raise ExperimentError(f"space.{path}", texts[0], NOT_KNOWN)
        found = {text: found_by({"import": text}, f"space.{path}") for text in texts}
        tree[path] = Named(texts[0], found[texts[0]]) if path in space.constants else Choice(found)
    return SearchSpace(nest(tree))


def _check_same(name: str, recorded: Mapping[str, Any], found: str | None) -> None:
    if found is not None and _same_file(found) != _same_file(str(recorded.get("class"))):
        expected = f"is what the experiment file makes now; the run was begun with {recorded.get('class')}"
        raise ExperimentError(name, found or "a name", expected)


def _same_file(described: str) -> str:
    """A class's description, in which a script run by itself and the same one loaded by name are one."""
    module, _, name = described.partition(":")
    return name if module == "__main__" or module.startswith(FILE_MODULE_PREFIX) else described


def written_again(directory: RunDirectory) -> Experiment:
    """The run's experiment for a run of its own: by today's code; where some of that is gone by the run's copy, which
    then is this process's code."""
    description = directory.description()
    copy = _copy_of(directory, description)
    for notice in _of_strangers(directory, description):
        print(f"raytune-hpo: {notice}", file=sys.stderr)
    if copy is not None:
        _check_files(copy, description["experiment"])
    if copy is not None and "is gone" in kept_code.differing(copy).values():
        copied_modules.install(copy)
    elif copy is not None:
        sys.path[:0] = [path for path in copy.import_paths() if path not in sys.path]
    experiment, told = _written(directory, description, {}, copy)
    for notice in told:
        print(f"raytune-hpo: {notice}", file=sys.stderr)
    return experiment
