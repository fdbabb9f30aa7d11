"""load_model: an exported model, to be called with raw inputs.

predict = load_model("model/")
predict(x)                            # numpy in, numpy out; a dict or tuple where the task's batches have one
predict(x, probabilities=True)        # of classes and labels
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError, TrialError, one_line
from raytune_hpo.experiment import copied_modules, kept_code
from raytune_hpo.experiment.references import found_by, from_reference
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.journal.inputs import Inputs, read
from raytune_hpo.results.exported_model import PROGRAM, SOURCE, STATISTICS, WEIGHTS
from raytune_hpo.results.given_inputs import GivenInputs
from raytune_hpo.results.program import load_program, on_device
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.named import described, is_import_name, is_json
from raytune_hpo.training.data import KINDS
from raytune_hpo.training.task import Task
from raytune_hpo.training.trees import leaves, mapped

if TYPE_CHECKING:
    import torch

    from raytune_hpo.training.answering import Answering

BATCH = 256
"""Samples of a forward pass, where none are named."""
DOCUMENTS = ("config.json", "ensemble.json")


class Predictor:
    """An exported model. inputs: what it takes; kind: of its task; document: what the export says of it.

    Outputs are those of `Task.predict`: of classes and labels logits.
    """

    def __init__(self, move: Callable[[str], Callable[..., Any]], inputs: Inputs, kind: str, document: Any) -> None:
        """move: the model on a device, a function of the inputs in their order."""
        self.inputs, self.kind, self.document = inputs, kind, document
        self._move = move
        self.to("cpu")

    def to(self, device: str) -> Predictor:
        """This predictor, which computes there from now on. Raises ExperimentError for a device that is not here."""
        import torch

        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
            expected = f"is no device of this machine: {one_line(error)[:80]}"
            raise ExperimentError("device", device, expected) from None
        self.device, self._answer = str(device), self._move(str(device))
        return self

    def __call__(
        self, inputs: Any, *, probabilities: bool = False, batch: int | None = None, headway: Headway = UNSEEN
    ) -> Any:
        """The outputs as numpy arrays, [N, ...]: one, or a dict or tuple of them as `Task.predict` answers.

        inputs: arrays or tensors [N, ...], of any N, in the structure of the task's batches or a dict by name.
        probabilities: of classes [N, C, ...] and labels [N, K], in place of logits. batch: samples at a time.
        headway: told of each batch. Raises ExperimentError, one line, for what does not fit, and TrialError for a model
        that fails.
        """
        import torch

        if probabilities and self.kind not in ("classification", "multilabel"):
            raise ExperimentError("probabilities", True, f"there are none of kind = {self.kind!r}, outputs alone")
        size = BATCH if batch is None else checks.integer("batch", batch, 1)
        given = GivenInputs(self.inputs, inputs)
        headway.begin("samples", len(given))
        found = []
        with torch.no_grad():
            for start in range(0, len(given), size):
                found.append(self._part(given.part(start, start + size), probabilities))
                headway.made(min(size, len(given) - start))
            if not found:  # what nothing looks like
                found = [mapped(lambda leaf: leaf[:0], self._part(given.example(), probabilities))]
        return mapped(lambda *parts: np.concatenate(parts), *found)

    def _part(self, given: tuple[torch.Tensor, ...], probabilities: bool) -> Any:
        import torch

        from raytune_hpo.training.ensemble_model import probabilities as of_logits

        try:
            outputs = self._answer(*(tensor.to(self.device) for tensor in given))
        except Exception as error:  # whatever a model does with values that have the right form
            raise TrialError(f"the model fails on these inputs: {one_line(error)[:300]}") from error
        for leaf in leaves(outputs):
            if not isinstance(leaf, torch.Tensor) or leaf.shape[:1] != given[0].shape[:1]:
                shape = list(leaf.shape) if isinstance(leaf, torch.Tensor) else type(leaf).__name__
                raise TrialError(f"the task's predict answers {shape} for {len(given[0])} samples: one each is needed")
        if probabilities:
            outputs = of_logits(outputs, self.kind).float()  # type: ignore[arg-type]  # one of the two
        return mapped(_numpy, outputs)


def _numpy(tensor: torch.Tensor) -> Any:
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()


def load_model(
    folder: str | Path, *, task: Task | None = None, space: SearchSpace | Mapping[str, Any] | None = None
) -> Predictor:
    """The model that `export` or `ensemble` has written to `folder`.

    A model.pt2 is all that is needed. Without one the task builds the model: `task`, or the one on record, whose code
    is run, by the copy in the folder where today's is another; a line says so. space: of its experiment, where objects
    stand in its config that are named there. Nothing is unpickled. Raises ExperimentError for a folder that holds no
    such model, and for a task or an object that cannot be found.
    """
    folder = Path(folder)
    document = _document(folder)
    try:
        predicts = document["predicts"]
        inputs, kind, is_program = read(predicts["inputs"], "predicts.inputs"), predicts["kind"], predicts["program"]
        if kind not in KINDS:
            raise ValueError(f"kind = {kind!r} is none")
    except (KeyError, TypeError, ValueError) as error:
        raise ExperimentError("model", str(folder), f"its document is damaged: {one_line(error)}") from error
    if is_program:
        program = load_program(folder / PROGRAM)
        return Predictor(lambda device: on_device(program, device), inputs, kind, document)
    module = _rebuilt(folder, document, inputs, task, space)
    return Predictor(module.to, inputs, kind, document)


def is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in DOCUMENTS)


def _document(folder: Path) -> dict[str, Any]:
    for path in (folder / name for name in DOCUMENTS):
        if not path.is_file():
            continue
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ExperimentError("model", str(path), f"cannot be read: {one_line(error)}") from error
        if isinstance(document, dict) and "predicts" in document:
            return document
        expected = "holds no model that predicts: of a function trainable, or exported before there were such"
        raise ExperimentError("model", str(folder), f"{expected}; export the run again")
    raise ExperimentError("model", str(folder), "must be a folder that export or ensemble -o has written")


def _rebuilt(
    folder: Path,
    document: Mapping[str, Any],
    inputs: Inputs,
    task: Task | None,
    space: SearchSpace | Mapping[str, Any] | None,
) -> Answering:
    """The module, of the task's own code."""
    from safetensors.numpy import load_file as load_arrays
    from safetensors.torch import load_file

    from raytune_hpo.training.answering import Answering
    from raytune_hpo.training.averaged import AveragedPredictions
    from raytune_hpo.training.ensemble_model import untrained

    of_record = task is None
    task = _recorded_task(folder, document) if task is None else task
    if space is not None:
        task = task.with_objects((space if isinstance(space, SearchSpace) else SearchSpace(space)).objects)
    for member in document.get("members", [document]):
        task = _with_known_objects(task, document, member.get("objects", {}), of_record=of_record)
    try:
        if "members" in document:
            members = document["members"]
            models = [untrained(task, task.resolved(m["resolved_config"]), m["folds"]) for m in members]
            model: torch.nn.Module = AveragedPredictions(models, task.kind)
        else:
            model = untrained(task, task.resolved(document["resolved_config"]), document["folds"])
        model.load_state_dict(load_file(folder / WEIGHTS))
        statistics = load_arrays(folder / STATISTICS) if (folder / STATISTICS).exists() else {}
    except Exception as error:  # a task of other code, a damaged file
        expected = f"its weights do not fit the task: {one_line(error)[:200]}"
        raise ExperimentError("model", str(folder), expected) from error
    return Answering(task, model, inputs, statistics).eval()


def _with_known_objects(task: Task, document: Mapping[str, Any], texts: Mapping[str, str], *, of_record: bool) -> Task:
    """The task with the objects that a config names, name -> text: the task's own defaults, and, where its code of
    record is run anyway, the classes and functions that can be imported. Raises ExperimentError for others."""
    known = {name: dict(named) for name, named in task.space_objects.items()}
    hyperparameters = task.hyperparameters()
    for name, text in texts.items():
        named = known.setdefault(name, {})
        default = hyperparameters[name].default if name in hyperparameters else None
        if text not in named and not is_json(default) and described(default) == text:
            named[text] = default
        if text not in named and not (of_record and is_import_name(text)):
            raise ExperimentError(
                f"config.{name}", text, "is an object of the experiment's: load_model(..., space=...)"
            )
        if text not in named:
            module, _, qualified = text.partition(":")
            file = document["task"].get("file")
            own = {"file": file, "name": qualified} if file and Path(file).stem == module else {"import": text}
            named[text] = found_by(own, f"config.{name}")
    return task.with_objects(known)


def _recorded_task(folder: Path, document: Mapping[str, Any]) -> Task:
    reference = document.get("task")
    reference = reference if isinstance(reference, Mapping) else {}
    if "made" in reference or "unsaved" in reference:
        name = reference.get("made", reference.get("unsaved"))
        raise ExperimentError(
            "task", name, f"has no name to find it by, and there is no {PROGRAM}: load_model(task=...)"
        )
    if "builtin" not in reference:
        what = f"{reference.get('file') or reference.get('import')}"
        if (folder / SOURCE).is_dir():
            code = kept_code.read(folder / SOURCE)
            if kept_code.differing(code):
                copied_modules.install(code)
                what = f"the copy of it in {folder / SOURCE}"
            else:
                sys.path[:0] = [path for path in code.import_paths() if path not in sys.path]
        print(f"raytune-hpo: {folder} has no {PROGRAM}: the task's own code runs, {what}", file=sys.stderr)
    task = from_reference(reference)
    if not isinstance(task, Task):
        raise ExperimentError("task", reference, "is no Task")
    return task
