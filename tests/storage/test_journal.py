"""The journal: whole steps or none, whatever a crash does to its last line."""

from __future__ import annotations

import json
import math

import pytest
from raytune_hpo.storage.journal import Journal, read

from raytune_hpo import ExperimentError

STEPS = [
    [{"event": "session", "number": 1}],
    [{"event": "suggest", "trial": "t0", "config": {"x": 0.1, "kind": "ä"}}, {"event": "start", "trial": "t0"}],
    [{"event": "result", "trial": "t0", "metrics": {"loss": math.nan, "best": math.inf}}],
    [{"event": "end", "trial": "t0", "config": {"name": 'a "quoted"\nline'}}],
]


def write(path, steps=STEPS, offset=None):
    journal = Journal(path, offset)
    for t, events in enumerate(steps):
        journal.append(t + 0.123456, events)
    journal.close()


def events(path):
    return [step["events"] for step, _ in read(path)]


def test_what_is_appended_is_read_back(tmp_path):
    path = tmp_path / "journal"
    write(path)
    found = [(step, end) for step, end in read(path)]
    assert repr([s["events"] for s, _ in found]) == repr(STEPS)
    assert [s["t"] for s, _ in found] == [0.1235, 1.1235, 2.1235, 3.1235]
    assert found[-1][1] == path.stat().st_size
    assert path.read_bytes().count(b"\n") == len(STEPS)
    assert math.isnan(found[2][0]["events"][0]["metrics"]["loss"])


def test_an_empty_journal_has_no_steps(tmp_path):
    (tmp_path / "journal").touch()
    assert list(read(tmp_path / "journal")) == []


def test_a_torn_last_line_is_left_out_wherever_it_is_torn_and_writing_goes_on_behind_the_sound_part(tmp_path):
    path = tmp_path / "journal"
    write(path)
    whole = path.read_bytes()
    ends = [end for _, end in read(path)]
    for cut in range(ends[-2], len(whole)):
        path.write_bytes(whole[:cut])
        steps = list(read(path))
        assert repr([s["events"] for s, _ in steps]) == repr(STEPS[:-1])
        assert steps[-1][1] == ends[-2]
        write(path, [[{"event": "close"}]], offset=steps[-1][1])
        assert repr(events(path)) == repr([*STEPS[:-1], [{"event": "close"}]])


def test_a_last_line_of_noughts_or_noise_is_torn_as_well(tmp_path):
    # A power cut may leave blocks of noughts, or a line that ends but was not written in its middle.
    path = tmp_path / "journal"
    write(path)
    whole = path.read_bytes()
    end = [end for _, end in read(path)][-2]
    for tail in (b"\0" * 300, b"\0" * 20 + b"\n", b'{"t": 1, "ev\0\0\0\n', b"[1, 2]\n", b'{"t": 1}\n', b"\xff\xfe\n"):
        path.write_bytes(whole[:end] + tail)
        assert len(events(path)) == len(STEPS) - 1


def test_damage_in_the_middle_is_an_error_that_names_the_line(tmp_path):
    path = tmp_path / "journal"
    write(path)
    lines = path.read_bytes().splitlines(keepends=True)
    for number in range(len(lines) - 1):
        for damage in (b"{\n", b'{"t": 1, "events"', b"\0" * 10 + b"\n"):
            path.write_bytes(b"".join([*lines[:number], damage, *lines[number + 1 :]]))
            if not damage.endswith(b"\n") and number == len(lines) - 2:
                continue  # it has swallowed the last line: torn, as far as anyone can tell
            with pytest.raises(ExperimentError, match=f"journal:{number + 1}.*damaged in the middle"):
                list(read(path))


def test_opening_a_journal_loses_nothing(tmp_path):
    path = tmp_path / "journal"
    write(path, STEPS[:2])
    write(path, STEPS[2:])
    assert repr(events(path)) == repr(STEPS)
    Journal(path).close()
    assert len(events(path)) == len(STEPS)


def test_each_step_is_one_line_of_json(tmp_path):
    write(tmp_path / "journal")
    for line in (tmp_path / "journal").read_text().splitlines():
        assert set(json.loads(line)) == {"t", "events"}
