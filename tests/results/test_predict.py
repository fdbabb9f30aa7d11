"""What an exported model predicts is what the run has measured: of every kind of task, with preprocessing."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import predicted_tasks as tasks
import pytest
import torch
from trained_run import trained_run

from raytune_hpo import Experiment, ExperimentError, Float, evaluate, load_model
from raytune_hpo.cli.main import main
from raytune_hpo.experiment.copied_modules import withdraw
from raytune_hpo.experiment.kept_code import keep
from raytune_hpo.experiment.project import loaded_code
from raytune_hpo.journal.codec import MalformedError
from raytune_hpo.journal.inputs import read
from raytune_hpo.results.array_files import read_arrays
from raytune_hpo.results.export import export
from raytune_hpo.results.exported_model import Takes, write_model
from raytune_hpo.results.given_inputs import GivenInputs
from raytune_hpo.results.program_check import check_program
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.tasks.diabetes import Diabetes
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.checkpoint import load_state
from raytune_hpo.training.ensemble_model import model_of
from raytune_hpo.training.inputs import inputs_of_split

# The figures, by numpy alone ------------------------------------------------------------------------


def log_softmax(outputs: Any) -> Any:
    outputs = outputs.astype(np.float64)
    outputs = outputs - outputs.max(1, keepdims=True)
    return outputs - np.log(np.exp(outputs).sum(1, keepdims=True))


def accuracy(outputs: Any, y: Any) -> float:
    return float((outputs.argmax(1) == y)[y != -100].mean())


def cross_entropy(outputs: Any, y: Any) -> float:
    chosen = np.take_along_axis(log_softmax(outputs), np.maximum(y, 0)[:, None], 1)[:, 0]
    return float(-chosen[y != -100].mean())


def squares(outputs: Any, y: Any) -> float:
    return float(((outputs.astype(np.float64) - np.asarray(y).reshape(outputs.shape)) ** 2).mean())


def rmse(outputs: Any, y: Any) -> float:
    return squares(outputs, y) ** 0.5


def binary(outputs: Any, y: Any) -> float:
    outputs = outputs.astype(np.float64)
    return float((np.logaddexp(0, outputs) - outputs * y).mean())


def xy(split: Any) -> tuple[Any, Any]:
    return split.x, split.y


def tree(split: Any) -> tuple[Any, Any]:
    return {key: split.tree[key] for key in ("steps", "mask")}, split.tree["class"]


def samples(split: Any) -> tuple[Any, Any]:
    pairs = [split[i] for i in range(len(split))]
    return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs])


#: name: (task, its default metric and others, (inputs, targets) of a split, whether torch.export follows it)
CASES: dict[str, Any] = {
    "classes": (tasks.Classes(), {"accuracy": accuracy, "loss": cross_entropy}, xy, True),
    "statistics": (tasks.Standardised(), {"rmse": rmse, "loss": squares}, xy, True),
    "tokens": (tasks.Tokens(), {"accuracy": accuracy, "loss": cross_entropy}, xy, True),
    "two inputs": (tasks.TwoInputs(), {"rmse": rmse}, xy, True),
    "segmentation": (tasks.Segmentation(), {"accuracy": accuracy, "loss": cross_entropy}, xy, True),
    "labels": (tasks.Labels(), {"loss": binary}, xy, True),
    "autoencoder": (tasks.Variational(), {"rmse": rmse}, lambda split: (split.x, split.x), True),
    "sequences": (tasks.Sequences(), {"accuracy": accuracy, "loss": cross_entropy}, tree, True),
    "packed": (tasks.Sequences(packed=True), {"accuracy": accuracy, "loss": cross_entropy}, tree, False),
    "one by one": (tasks.OneByOne(), {"accuracy": accuracy, "loss": cross_entropy}, samples, True),
    "house": (Diabetes(), {"rmse": rmse}, xy, True),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """case -> (its run, the folder of its export)."""
    made: dict[str, Any] = {}

    def of(case: str, **options: Any) -> Any:
        if case not in made:
            folder = tmp_path_factory.mktemp(case.replace(" ", "_"))
            task = CASES[case][0]
            space = {"lr": Float(1e-4, 0.1, "log"), "batch_size": 64}
            chosen = Experiment(name="predict", task=task, space=space, max_epochs=2, seed=3)
            run = trained_run(folder / "run", chosen, [{"lr": 0.02, "batch_size": 64}])
            export(run.load(), folder / "model")
            made[case] = (run, folder / "model")
        return made[case]

    return of


@pytest.mark.parametrize("case", CASES)
def test_predictions_are_what_the_run_has_measured(exported: Any, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    run, folder = exported(case)
    task, figures, parts, follows = CASES[case]
    assert (folder / "model.pt2").exists() == follows
    assert (folder / "source").exists() == (not follows)
    predict = load_model(folder)
    assert ("own code runs" in capfd.readouterr().err) == (not follows)
    best = run.load().best
    splits = task.splits(3)
    state = load_state(best.checkpoint)
    model = model_of(task, task.resolved(best.config), state)
    tested = evaluate(model, splits.test, task, config=best.config, statistics=splits.statistics)
    for split, reported in ((splits.validation, best.validation), (splits.test, tested)):
        x, y = parts(split)
        outputs = predict(x, batch=37)
        for name, figure in figures.items():
            right = reported.get(f"validation_{name}", reported.get(name))
            assert figure(outputs, y) == pytest.approx(right, rel=1e-6, abs=1e-6), (case, name)
    if predict.kind in ("classification", "multilabel"):
        shares = predict(x, probabilities=True)
        of_logits = np.exp(log_softmax(outputs)) if predict.kind == "classification" else 1 / (1 + np.exp(-outputs))
        np.testing.assert_allclose(shares, of_logits, rtol=1e-4, atol=1e-6)


def test_folds_and_ensembles_predict_their_averages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"lr": Float(1e-4, 0.1, "log"), "batch_size": 64}
    task = tasks.Standardised()
    chosen = Experiment(name="predict", task=task, space=space, max_epochs=1, seed=3, folds=2)
    run = trained_run(tmp_path / "run", chosen, [{"lr": lr, "batch_size": 64} for lr in (0.01, 0.02)])
    export(run.load(), tmp_path / "folds")
    splits, best = task.splits(3), run.load().best
    model = model_of(task, task.resolved(best.config), load_state(best.checkpoint))
    right = evaluate(model, splits.test, task, statistics=splits.statistics)
    found = load_model(tmp_path / "folds")(splits.test.x)
    assert rmse(found, splits.test.y) == pytest.approx(right["rmse"], rel=1e-6)
    assert main(["ensemble", str(run.path), "--method", "top", "-o", str(tmp_path / "ensemble")]) == 0
    document = json.loads((tmp_path / "ensemble/ensemble.json").read_text())
    found = load_model(tmp_path / "ensemble")(splits.test.x)
    assert rmse(found, splits.test.y) == pytest.approx(document["test"]["test_rmse"], rel=1e-6)
    assert [m["folds"] for m in document["members"]] == [2, 2]
    # Without the program, by the task that is on record.
    for name in ("folds", "ensemble"):
        file = next((tmp_path / name).glob("[ce]*.json"))
        document = json.loads(file.read_text())
        document["predicts"]["program"] = False
        file.write_text(json.dumps(document))
        from safetensors.numpy import save_file

        save_file(dict(splits.statistics), tmp_path / name / "statistics.safetensors")
        np.testing.assert_allclose(load_model(tmp_path / name, task=task)(splits.test.x)[0], found[0], rtol=1)
    again = load_model(tmp_path / "ensemble")(splits.test.x)
    np.testing.assert_allclose(again, found, rtol=1e-5, atol=1e-6)
    assert "own code runs" in capsys.readouterr().err


def test_a_model_without_a_program_runs_the_code_that_it_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").touch()
    text = (
        "import predicted_tasks, dataclasses\n@dataclasses.dataclass(frozen=True)\n"
        "class Own(predicted_tasks.Sequences):\n    packed: bool = True\n    def predict(self, model, batch):\n"
        "        return 2 * super().predict(model, batch)\n"
    )
    (project / "own_sequences.py").write_text(text)
    monkeypatch.syspath_prepend(str(project))
    import own_sequences  # type: ignore[import-not-found]  # written just now

    chosen = Experiment(name="own", task=own_sequences.Own(), space={"lr": Float(0.01, 0.1)}, max_epochs=1, seed=3)
    run = trained_run(tmp_path / "run", chosen, [{"lr": 0.02}])
    code = loaded_code(project / "own_sequences.py")
    keep(code, run.path)
    export(run.load(), tmp_path / "model")
    x, y = tree(tasks.Sequences().splits(3).validation)
    right = cross_entropy(load_model(tmp_path / "model")(x), y)
    assert right == pytest.approx(run.load().best.validation["validation_loss"], rel=1e-6)
    capsys.readouterr()
    (project / "own_sequences.py").write_text(text.replace("2 *", "3 *"))
    monkeypatch.delitem(sys.modules, "own_sequences")
    try:
        again = load_model(tmp_path / "model")(x)
        assert "the task's own code runs, the copy of it in" in capsys.readouterr().err
        assert cross_entropy(again, y) == pytest.approx(right, rel=1e-9)
        found = load_model(tmp_path / "model", task=own_sequences.Own())(x)
        np.testing.assert_array_equal(found, again)
        (tmp_path / "model/source/own_sequences.py").write_text("import os")
        with pytest.raises(ExperimentError, match="was changed"):
            load_model(tmp_path / "model")
    finally:
        withdraw()


def test_the_program_runs_without_this_package(exported: Any, tmp_path: Path) -> None:
    cases = ("classes", "statistics", "sequences")
    for case in cases:
        task, _, parts, _ = CASES[case]
        x, _ = parts(task.splits(3).test)
        predict = load_model(exported(case)[1])
        given = [x] if isinstance(x, np.ndarray) else [x[name] for name in predict.inputs.needed()]
        kinds = [np.float32 if a.dtype.kind == "f" else a.dtype for a in given]
        given = [a.astype(kind) for a, kind in zip(given, kinds, strict=True)]
        np.savez(tmp_path / case, outputs=predict(x), **{f"x{i}": a for i, a in enumerate(given)})
    script = f"""
import sys, numpy as np, torch
sys.modules["raytune_hpo"] = None
for case, folder in {[(c, str(exported(c)[1])) for c in cases]}:
    file = np.load({str(tmp_path)!r} + f"/{{case}}.npz")
    given = [torch.from_numpy(file[f"x{{i}}"]) for i in range(len(file.files) - 1)]
    outputs = torch.export.load(folder + "/model.pt2").module()(*given)
    np.testing.assert_allclose(outputs.detach().numpy(), file["outputs"], rtol=1e-5, atol=1e-6)
assert not [name for name in sys.modules if name.startswith("raytune_hpo.")]
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})


# What the model takes -------------------------------------------------------------------------------


def test_of_a_batch_of_the_tasks_own_a_prediction_needs_what_it_reads(exported: Any) -> None:
    for case in ("sequences", "packed"):
        document = json.loads((exported(case)[1] / "config.json").read_text())["predicts"]
        assert document["inputs"]["given"] == ["steps", "mask"]
        predict = load_model(exported(case)[1])
        data = tasks.Sequences().splits(3).test.tree
        whole = predict(data)  # what is for training is left alone
        np.testing.assert_array_equal(predict({"mask": data["mask"], "steps": torch.tensor(data["steps"])}), whole)
    assert list(load_model(exported("one by one")[1]).inputs.needed()) == [""]  # x of a pair


def needed(task: Any, folder: Path) -> tuple[bool, Any]:
    """(whether there is a program, the names) of an untrained model."""
    folder.mkdir()
    inputs = inputs_of_split(task.splits(0).train)
    assert inputs is not None
    found = write_model(task, task.build_model(task.resolved({})).eval(), Takes(inputs, {}), folder, None)
    return found["program"], found["inputs"].get("given")


def test_what_is_needed_of_a_tuple_and_of_a_task_without_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert needed(tasks.Triples(), tmp_path / "packed") == (False, ["0", "1"])
    assert needed(tasks.Triples(packed=False), tmp_path / "masked") == (True, ["0", "1"])
    capsys.readouterr()
    assert needed(tasks.Unpredicted(), tmp_path / "none") == (False, None)
    said = capsys.readouterr().err
    assert "Unpredicted: a batch is a dict with 'x'; write predict(self, model, batch)" in said
    assert said.count("\n") == 1


def test_any_number_of_samples_and_names_or_structure(exported: Any) -> None:
    predict = load_model(exported("two inputs")[1])
    x = tasks.TwoInputs().splits(3).test.x
    whole = predict(x)
    assert (whole.shape, whole.dtype) == ((80, 1), np.float32)
    np.testing.assert_array_equal(predict({"left": x["left"], "more.0": x["more"][0]}), whole)
    for n in (0, 1, 3):
        part = predict({"left": x["left"][:n], "more": [x["more"][0][:n]]})
        np.testing.assert_allclose(part, whole[:n], rtol=1e-5, atol=1e-6)
    assert load_model(exported("packed")[1])({"steps": np.zeros((0, 8, 8)), "mask": np.zeros((0, 8), bool)}).shape == (
        0,
        10,
    )


LEFT, TOKEN = np.zeros((3, 32)), np.zeros(3, np.int64)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (LEFT, r"inputs = 'ndarray': must be a dict or a tuple.*left: float32 \[N, 32\], more.0: int32 \[N\]"),
        ({"left": LEFT}, r"'more.0' is missing; the model takes left: "),
        ({"left": LEFT, "more": (TOKEN,), "rigth": LEFT}, r"inputs = 'rigth': no such input"),
        ({"left": LEFT[:, 1:], "more": (TOKEN,)}, r"inputs.left = 'float64 \[3, 31\]': must be float32 \[N, 32\]"),
        ({"left": LEFT[None], "more": (TOKEN,)}, r"inputs.left = 'float64 \[1, 3, 32\]'"),
        ({"left": LEFT, "more": (TOKEN.astype(float),)}, r"inputs.more.0 = 'float64': must be int32 \[N\]: integers"),
        ({"left": LEFT, "more": (TOKEN + 2**40,)}, r"inputs.more.0 = 1099511627776: must be int32, from -2147483648"),
        ({"left": LEFT, "more": (TOKEN[:2],)}, r"must have as many samples each"),
        ({"left": np.full((3, 32), "a"), "more": (TOKEN,)}, r"inputs.left = '<U1': must be .* numbers"),
        ({"left": 1.0, "more": (TOKEN,)}, r"inputs.left = 1.0: must be an array with the samples on its first axis"),
    ],
)
def test_inputs_that_do_not_fit_are_one_line(exported: Any, given: Any, message: str) -> None:
    with pytest.raises(ExperimentError, match=message) as caught:
        load_model(exported("two inputs")[1])(given)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_as_it_is_needed(exported: Any, tmp_path: Path) -> None:
    predict = load_model(exported("statistics")[1])
    x = np.asarray(tasks.Standardised().splits(3).test.x)
    np.save(tmp_path / "x.npy", x)
    given = read_arrays(tmp_path / "x.npy")
    assert isinstance(given, np.memmap)
    assert isinstance(GivenInputs(predict.inputs, given).arrays[""], np.memmap)
    np.testing.assert_array_equal(predict(given), predict(x))
    for as_given in (x.tolist(), list(torch.tensor(x)), {"anything": x}, torch.tensor(x)):
        np.testing.assert_allclose(predict(as_given), predict(x), rtol=1e-5, atol=1e-6)


def test_of_numbers_there_are_no_probabilities(exported: Any) -> None:
    predict = load_model(exported("statistics")[1])
    with pytest.raises(ExperimentError, match="there are none of kind = 'regression'"):
        predict(np.zeros((1, 10)), probabilities=True)
    with pytest.raises(ExperimentError, match="is no device of this machine"):
        predict.to("abacus")
    with pytest.raises(ExperimentError, match="batch = 0"):
        predict(np.zeros((1, 10)), batch=0)


# Nobody is trusted ----------------------------------------------------------------------------------


def test_the_statistics_are_the_trainings_and_checked(exported: Any, tmp_path: Path) -> None:
    run, _ = exported("statistics")
    file = next(run.path.glob("statistics-*.safetensors"))
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    try:
        file.write_bytes(before[:-1] + b"\0")
        with pytest.raises(ExperimentError, match=r"statistics-.* is damaged"):
            export(run.load(), tmp_path / "out")
        file.unlink()
        file.symlink_to("/dev/zero")
        with pytest.raises(ExperimentError, match="is a link"):
            export(run.load(), tmp_path / "out2")
    finally:
        file.unlink()
        file.write_bytes(before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"of": "y", "tree": {"shape": [], "dtype": "int64"}},
        {"of": "x", "tree": {"shape": [-1], "dtype": "int64"}},
        {"of": "x", "tree": {"shape": [2**30, 2**30], "dtype": "int64"}},
        {"of": "x", "tree": {"shape": [1], "dtype": "object"}},
        {"of": "x", "tree": {"dict": []}},
        {"of": "x", "tree": {"dict": [["a", {"shape": [], "dtype": "bool"}]] * 2}},
        {"of": "x", "tree": {"named": [["__class__", {"shape": [], "dtype": "bool"}]]}},
        {"of": "x", "tree": {"list": {"a": 1}}},
        {"of": "x", "tree": {"shape": [], "dtype": "bool"}, "given": ["a"]},
        {"of": "x", "tree": None},
        [],
    ],
)
def test_a_record_of_inputs_is_read_strictly(wrong: Any) -> None:
    with pytest.raises(MalformedError):
        read(wrong, "inputs")


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def test_a_program_that_would_be_unpickled_is_refused(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = exported("classes")[1] / "model.pt2"
    monkeypatch.chdir(tmp_path)

    def changed(change: Any, more: dict[str, bytes]) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pt2"
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, change(name, old.read(name)))
            for name, data in more.items():
                new.writestr(f"model/{name}", data)
        return path

    def asks(name: str, data: bytes) -> bytes:
        return data.replace(b'"use_pickle": false', b'"use_pickle": true') if name.endswith("config.json") else data

    def evaluates(name: str, data: bytes) -> bytes:
        return data.replace(b"positive=True", b"positive=exec(1)") if name.endswith("model.json") else data

    def replaced(path: tuple[Any, ...], value: Any) -> Any:
        """In the program's JSON."""

        def change(name: str, data: bytes) -> bytes:
            if not name.endswith("model.json"):
                return data
            document = json.loads(data)
            place = document
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            return json.dumps(document).encode()

        return change

    def pickled(name: str, data: bytes) -> bytes:
        saved = io.BytesIO()
        torch.save(((Evil(),), {}), saved)
        return saved.getvalue() if name.endswith("sample_inputs/model.pt") else data

    evil, graph = "x=__import__('os').mkdir('executed')", ("graph_module", "graph")
    signature = ("graph_module", "module_call_graph", 0, "signature")
    check_program(changed(lambda _, data: data, {}))
    for path in (
        changed(asks, {}),
        changed(pickled, {}),
        changed(replaced(("guards_code",), [evil[2:]]), {}),
        changed(replaced((*graph, "inputs", 0, "as_tensor", "name"), evil), {}),
        changed(replaced((*graph, "inputs", 0), {"as_string": "' or exec(1) or '"}), {}),
        changed(replaced((*graph, "nodes", 0, "target"), "os.mkdir"), {}),
        changed(replaced((*signature, "forward_arg_names"), [evil]), {}),
        changed(replaced((*signature, "in_spec"), evil), {}),
        changed(lambda _, data: data, {"data/constants/opaque_obj_0": pickle.dumps(Evil())}),
        changed(evaluates, {}),
    ):
        with pytest.raises(ExperimentError, match="reading it could execute anything"):
            check_program(path)
    assert not Path("executed").exists()


def test_what_is_no_model_is_one_line(exported: Any, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="must be a folder that export or ensemble -o has written"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ExperimentError, match="holds no model that predicts"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"predicts": {"inputs": 1, "kind": "other", "program": true}}')
    with pytest.raises(ExperimentError, match="its document is damaged"):
        load_model(tmp_path)
    document = json.loads((exported("classes")[1] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(document))
    (tmp_path / "model.pt2").write_bytes(b"PK")
    with pytest.raises(ExperimentError, match=r"model.pt2': cannot be read"):
        load_model(tmp_path)


def test_of_a_run_of_before_inputs_were_recorded(tmp_path: Path) -> None:
    """Its one array is on record; of a task that preprocesses the data are loaded."""
    from raytune_hpo.journal.events import DataLoaded
    from raytune_hpo.results.exported_model import takes_of

    chosen = Experiment(name="old", task="digits", space={"lr": Float(0.01, 0.1)}, max_epochs=1, seed=3)
    run = trained_run(tmp_path / "run", chosen, [{"lr": 0.01}])
    results = run.load()
    results.ledger.apply(DataLoaded((64,), "float32", 1077, 360))
    takes = takes_of(results, Digits())
    assert ([leaf.described for leaf in takes.inputs.needed().values()], takes.statistics) == (["float32 [N, 64]"], {})
    takes = takes_of(results, tasks.Standardised())
    assert set(takes.statistics) == {"mean", "deviation"}
    assert CheckpointStore(run.path, 0).intact(results.ledger.trials["t00000"].checkpoints[0])


# The verb -------------------------------------------------------------------------------------------


def predicted(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


def test_the_verb_reads_and_writes_files(exported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.numpy import load_file, save_file

    _, folder = exported("sequences")
    data = tasks.Sequences().splits(3).test.tree
    given = {"steps": data["steps"].astype(np.float32), "mask": data["mask"]}
    right = load_model(folder)(given, probabilities=True)
    np.savez(tmp_path / "in.npz", **given)
    save_file(given, tmp_path / "in.safetensors")
    for source, target in (("in.npz", "out.npy"), ("in.safetensors", "out.npz"), ("in.npz", "out.csv")):
        assert predicted(folder, tmp_path / source, "-o", tmp_path / target, "--probabilities", "--batch", 9) == 0
        assert capsys.readouterr().out.endswith(f"{target}: outputs float32 [80, 10]\n")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), right, rtol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["outputs"], right, rtol=1e-5)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out.csv", delimiter=","), right, rtol=1e-5)
    run, folder = exported("statistics")
    x = np.asarray(tasks.Standardised().splits(3).test.x)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "out.safetensors"
    for model in (folder, run.path):  # the winner of a run
        assert predicted(model, tmp_path / "x.npy", "-o", out, "--force") == 0
        np.testing.assert_allclose(load_file(out)["outputs"], load_model(folder)(x), rtol=1e-5)


def test_what_the_verb_cannot_do_is_one_line(exported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = exported("statistics")
    np.save(tmp_path / "x.npy", np.zeros((2, 9)))
    np.save(tmp_path / "objects.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    (tmp_path / "damaged.safetensors").write_bytes(b"nonsense")
    (tmp_path / "there.npy").touch()
    x, out = tmp_path / "x.npy", tmp_path / "out.npy"
    for arguments, message in (
        ((folder, x, "-o", out), "must be float32 [N, 10]"),
        ((folder, x, "-o", tmp_path / "there.npy"), "exists already; choose another, or --force"),
        ((folder, x, "-o", tmp_path / "none/out.npy"), "must lie in a folder that is there"),
        ((folder, x, "-o", tmp_path / "out.txt"), "must end in one of .npy, .npz, .safetensors, .csv"),
        ((folder, tmp_path / "x.pkl", "-o", out), "must end in one of .npy, .npz, .safetensors"),
        ((folder, tmp_path / "none.npy", "-o", out), "No such file"),
        ((folder, tmp_path / "objects.npy", "-o", out), "cannot be read: ValueError"),
        ((folder, tmp_path / "damaged.safetensors", "-o", out), "is damaged"),
        ((tmp_path, x, "-o", out), "must be a folder that export or ensemble -o has written"),
    ):
        assert predicted(*arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert message in captured.err
        assert captured.err.count("\n") == 1
    assert not out.exists()
