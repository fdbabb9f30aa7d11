"""raytune-hpo predict MODEL_DIR inputs.npy -o outputs.npy"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_hpo.cli.arguments import add_code, add_quiet, say, shown_headway
from raytune_hpo.errors import ExperimentError

if TYPE_CHECKING:
    from raytune_hpo.headway import Headway
    from raytune_hpo.results.predictor import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a folder of export or ensemble -o; or of a run, whose winner is exported first")
    parser.add_argument(
        "inputs", help=".npy; .npz or .safetensors of several arrays, named as in the model's config.json"
    )
    parser.add_argument("-o", "--output", required=True, help="the file to write: .npy, .npz, .safetensors or .csv")
    parser.add_argument("--probabilities", action="store_true", help="of classes and labels, in place of logits")
    parser.add_argument("--batch", type=int, metavar="N", help="samples at a time (default: 256)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    add_code(parser)
    add_quiet(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.array_files import check_output, read_arrays, write_arrays

    output = Path(options.output).absolute()
    check_output(output, options.force)
    inputs = read_arrays(Path(options.inputs))
    with shown_headway(options) as headway, _model(options, headway) as predict:
        answer = predict.to(options.device)
        found = answer(inputs, probabilities=options.probabilities, batch=options.batch, headway=headway)
    try:
        write_arrays(output, found)
    except OSError as error:
        raise ExperimentError("--output", options.output, f"cannot be written: {error.strerror or error}") from error
    say(f"{options.output}: {_described(found)}")
    return 0


@contextlib.contextmanager
def _model(options: argparse.Namespace, headway: Headway) -> Iterator[Predictor]:
    from raytune_hpo.results.predictor import is_model, load_model
    from raytune_hpo.storage.run_directory import DESCRIPTION

    folder = Path(options.model)
    if is_model(folder) or not (folder / DESCRIPTION).is_file():
        yield load_model(folder)
        return
    from raytune_hpo.results.export import export
    from raytune_hpo.results.results import load_results

    with tempfile.TemporaryDirectory(prefix="raytune_hpo_model_") as temporary:
        export(load_results(folder), Path(temporary) / "model", code=options.code, headway=headway)
        yield load_model(Path(temporary) / "model")


def _described(outputs: object) -> str:
    from raytune_hpo.journal.inputs import named_leaves

    return ", ".join(f"{name or 'outputs'} {a.dtype} {list(a.shape)}" for name, a in named_leaves(outputs))
