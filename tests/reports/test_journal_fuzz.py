"""1,000 changes to recorded journals and descriptions: what `journal_fuzz` says must hold."""

from __future__ import annotations

from pathlib import Path

from journal_fuzz import NUMBER, campaign


def test_c1_c18_no_change_of_a_run_goes_by_in_silence_ends_in_a_traceback_or_reaches_outside(tmp_path: Path) -> None:
    found = campaign(tmp_path, NUMBER)
    assert sum(texts.total() for texts in found.values()) == NUMBER
    # Most changes are refused and some are legal: a test that saw none of either would see nothing.
    assert found["left alone"]["an earlier state"] < found["left alone"].total() / 2
    assert 0 < found["made anew"]["nothing"] < found["made anew"].total() / 2
    assert all(len(texts) > 5 for texts in found.values())
