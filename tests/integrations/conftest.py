"""A trial of a function, in this process: run it, cut it off, let it go on."""

from __future__ import annotations

import pytest
import torch

from raytune_hpo.workers.function_session import FunctionSession
from raytune_hpo.workers.outcomes import Report
from raytune_hpo.workers.surroundings import Place


@pytest.fixture
def trial(tmp_path):
    """Runs a function as a trial, for so many reports: they, how it ended, and what a pause would have saved."""
    number = iter(range(1000))

    def run(function, config=None, start=None, reports=100, every=1):
        def scratch():
            folder = tmp_path / f"scratch{next(number)}"
            folder.mkdir()
            return folder

        place = Place("t0", 7, changes_directory=False, checkpoint_every=every, max_epochs=5)
        session = FunctionSession(
            function,
            config or {},
            trial_id="t0",
            checkpoint=start,
            scratch=scratch,
            prepare_thread=lambda: torch.set_num_threads(1),
            place=place,
        )
        found = []
        while len(found) < reports and (not found or isinstance(found[-1], Report)):
            found.append(session.next())
        saved = None
        if session.save is not None and isinstance(found[-1], Report):
            saved = scratch()
            session.save(saved)
        for report in found:  # its own files go with a session
            if isinstance(report, Report) and report.checkpoint is not None:
                session._made.discard(report.checkpoint)
        session.stop()
        return [f for f in found if isinstance(f, Report)], found[-1], saved

    return run
