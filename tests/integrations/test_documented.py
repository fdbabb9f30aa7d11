"""The examples of docs/trainers.md that need what the gate does not install: `make integrations` has it."""

from __future__ import annotations

import re

import pytest
from documents import REPOSITORY, blocks_of

from raytune_hpo import load_experiment, run

BLOCKS = [b for b in blocks_of(REPOSITORY / "docs/trainers.md") if b.language == "python" and b.reason is not None]
NEEDED = ("lightning", "transformers", "accelerate", "skorch")
EXAMPLES = {name: next(b for b in BLOCKS if re.search(rf"^(import|from) {name}\b", b.text, re.M)) for name in NEEDED}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name, tmp_path):
    pytest.importorskip(name)
    file = tmp_path / "example.py"
    file.write_text(EXAMPLES[name].text)
    changes = {"num_samples": 2, "max_epochs": 3, "executor": "inline", "scheduler": "asha", "storage": str(tmp_path)}
    results = run(load_experiment(str(file)).override(changes), quiet=True)
    assert results.best is not None
    assert results.counts.get("failed", 0) == 0
    assert results.best.checkpoint is not None
