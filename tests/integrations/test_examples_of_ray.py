"""Ray's own published examples, with only their last lines exchanged: Tuner(...).fit() and what reads its results.

    make test ARGS="tests/integrations/test_examples_of_ray.py -m large"     # RAYTUNE_HPO_DATA: where MNIST lies

They are read from the installed Ray. `get_data_loaders` of the convolutional net downloads MNIST into ~/data: a HOME
that has it there stands in for the download.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray.tune

from raytune_hpo import load_results

EXAMPLES = Path(ray.tune.__file__).parent / "examples"
#: The example -> fields for what the script says nowhere, here how long a trial may run.
SCRIPTS = {
    "async_hyperband_example": "",
    "custom_func_checkpointing": "",
    "hyperband_function_example": "",
    "tune_basic_example": ", max_epochs=5",
    "pbt_convnet_function_example": ", max_epochs=4",
    "mnist_pytorch": "",
    "logging_example": "",
}
EXCHANGED = (
    (r"tuner\.fit\(\)", "raytune_hpo.run(raytune_hpo.from_ray(tuner{more}, storage={storage!r}), quiet=True)"),
    (r"results\.get_best_result\(\)\.config", "results.best.config"),
    (r"results\.get_best_result\(\)\.checkpoint\.as_directory\(\)", "contextlib.nullcontext(results.best.checkpoint)"),
    (r"results\.get_best_result\(\)", "results.best"),
    (r"results\.errors", "results.counts.get('failed')"),
)


@pytest.mark.large
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_example_runs(name, tmp_path):
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    changed = 0
    for i, line in enumerate(lines):
        for old, new in EXCHANGED:
            filled = new.replace("{more}", SCRIPTS[name]).replace("{storage!r}", repr(str(tmp_path / "runs")))
            lines[i] = re.sub(old, lambda _, filled=filled: filled, lines[i])
        changed += lines[i] != line
    assert 1 <= changed <= 4
    first = next(i for i, line in enumerate(lines) if line.startswith("import ") and "__future__" not in line)
    lines.insert(first, "import contextlib, raytune_hpo")
    script = tmp_path / f"{name}.py"
    script.write_text("\n".join(lines))
    data = os.environ.get("RAYTUNE_HPO_DATA")
    if "mnist" in name or "convnet" in name:
        if data is None:
            pytest.skip("needs RAYTUNE_HPO_DATA")
        (tmp_path / "data").symlink_to(data)
    environment = {**os.environ, "HOME": str(tmp_path), "RAY_AIR_NEW_OUTPUT": "0"}
    done = subprocess.run(
        [sys.executable, script, "--smoke-test"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (run_dir,) = (tmp_path / "runs").iterdir()
    results = load_results(run_dir)
    assert results.status == "finished"
    assert results.best is not None
    print(f"{name}: {changed} lines exchanged, {results.counts}, {done.stdout.splitlines()[-1:]}")
