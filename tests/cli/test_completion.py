"""Completion: the script that a shell reads knows every command and its options."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raytune_hpo.cli.main import VERBS, main


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_every_command_is_in_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS)
    assert "max" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        program = f"""
            complete() {{ function=$4; builtin complete "$@"; }}
            source {tmp_path / "script"}
            COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
            _shtab_raytune_hpo; printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert completed("raytune-hpo", "exp") == {"export"}
    assert completed("raytune-hpo", "export", "--o") == {"--output"}
    assert completed("raytune-hpo", "export", "--to", "") >= {"csv", "optuna", "parquet"}


def test_without_shtab_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "raytune-hpo[completion]" in capsys.readouterr().err
