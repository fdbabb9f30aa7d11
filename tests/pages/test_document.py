"""The document of a report: numbers that follow from the journal."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hostile import beyond_reason, copied, hostile_run, pbt_run, strange_runs, two_sessions
from written_run import checkpoint, end, finished_run, result, seal, suggest, written_run

from raytune_hpo import Float, load_results
from raytune_hpo.cli.main import main
from raytune_hpo.figures import KINDS, panels
from raytune_hpo.journal.events import Closed, DataLoaded, Narrowed, RunStopped, SessionOpened
from raytune_hpo.pages.document import document
from raytune_hpo.pages.sections import sections
from raytune_hpo.results.facts import facts
from raytune_hpo.space import SearchSpace
from raytune_hpo.states import RunStatus
from raytune_hpo.storage.run_directory import RunDirectory


def told(run: Path) -> dict[str, Any]:
    return document(load_results(run))


def topics(found: dict[str, Any]) -> dict[str, str]:
    return {own["topic"]: own["text"] for own in found["summary"]}


def test_costs_and_what_was_saved(tmp_path: Path) -> None:
    found = told(hostile_run(tmp_path / "run"))
    cost = found["cost"]
    assert cost["trials"] == 32
    assert cost["epochs"] == 10 * 9 + 20 * 3 + 1
    assert cost["saved"] == 20 * 6
    assert cost["saved_share"] == pytest.approx(120 / (120 + 151))
    assert found["best"]["trial_id"] == "t00012"
    assert found["best"]["margin"] == pytest.approx(0.01)
    assert "spared 120 of 271 epochs (44%" in topics(found)["What it cost"]
    causes = found["failures"]
    assert [(cause["status"], cause["count"]) for cause in causes] == [("failed", 1), ("diverged", 1)]
    assert "Traceback" in causes[0]["traceback"]
    assert found["rungs"] == [
        {"epoch": 0, "reached": 32, "last": 1, "stopped": 0, "completed": 0, "failed": 1, "paused": 0},
        {"epoch": 1, "reached": 31, "last": 1, "stopped": 0, "completed": 0, "failed": 1, "paused": 0},
        {"epoch": 3, "reached": 30, "last": 20, "stopped": 20, "completed": 0, "failed": 0, "paused": 0},
        {"epoch": 9, "reached": 10, "last": 10, "stopped": 0, "completed": 10, "failed": 0, "paused": 0},
    ]


def test_the_winners_line_is_that_of_its_best_epoch(tmp_path: Path) -> None:
    family = facts(load_results(pbt_run(tmp_path / "run")))["lineage"]
    line = [(own["trial"], own["generation"], own["first"], own["last"]) for own in family["winner"]]
    assert line == [("t00001", 0, 0, 4), ("t00002", 2, 4, 5)]
    assert family["varying"] == ["lr"]
    assert len(family["segments"]) == 5


def test_a_segments_config_is_the_one_that_was_trained(tmp_path: Path) -> None:
    """lr_range="auto" moves the learning rate after the suggestion."""
    lines = [suggest("t00000", lr=0.1), Narrowed("t00000", {"lr": 0.03}), result("t00000", 1, 0.5)]
    lines += [copied("t00000", "t00000", 1, 1, 0.03, 0.05), result("t00000", 2, 0.6, generation=1)]
    family = facts(load_results(written_run(tmp_path / "run", *lines)))["lineage"]
    assert [own["config"]["lr"] for own in family["winner"]] == [0.03, 0.05]


def test_the_time_between_two_sessions_is_left_out(tmp_path: Path) -> None:
    times = facts(load_results(two_sessions(tmp_path / "run")))["timeline"]
    assert times["wall_s"] == 24  # 12 of the first, from its process's start, and 12 of the second
    spans = {worker["worker"]: worker["spans"] for worker in times["workers"]}
    assert spans["host-7"] == [[5.5, 6.5, "process", None], [7.0, 12.0, "training", "t00000"]]
    assert spans["host-8"] == [[17.0, 24.0, "training", "t00000"]]
    shares = {own["what"]: own["seconds"] for own in times["shares"]}
    # Each worker for its own session: 12 seconds of two.
    assert shares == {"training": 12, "before it began": 10.5, "process": 1, "idle": 0.5}
    assert sum(own["share"] for own in times["shares"]) == pytest.approx(1)


def test_the_best_so_far_over_trials_and_seconds(tmp_path: Path) -> None:
    lines = [suggest("t00000"), suggest("t00001"), suggest("t00002"), suggest("t00003")]
    lines += [result("t00000", 1, 0.5), result("t00001", 1, 0.4), result("t00002", 1, float("nan"), "diverged")]
    lines += [end("t00002", "diverged", "validation_accuracy at epoch 1"), result("t00000", 2, 0.6)]
    lines += [result("t00003", 1, 0.7), result("t00003", 2, 0.1)]
    found = facts(load_results(written_run(tmp_path / "run", *lines)))["best_so_far"]
    assert [(own["trials"], own["trial"], own["value"]) for own in found["trials"]] == [
        (1, "t00000", 0.6),
        (4, "t00003", 0.7),
    ]
    improvements = [(own["trial"], own["epoch"], own["value"]) for own in found["seconds"]]
    assert improvements == [("t00000", 1, 0.5), ("t00000", 2, 0.6), ("t00003", 1, 0.7)]


def test_many_curves_are_thinned_and_the_best_are_whole(tmp_path: Path) -> None:
    lines: list[Any] = []
    for i in range(400):
        trial = f"t{i:05d}"
        lines += [[suggest(trial), *(e for k in range(1, 101) for e in result(trial, k, i / 1000 + k / 10000))]]
        lines += [end(trial, "completed", "max_epochs")]
    found = facts(load_results(written_run(tmp_path / "run", *lines, max_epochs=100)))["curves"]
    assert found["of"] == 400
    assert len(found["shown"]) == 240
    assert [curve["rank"] for curve in found["shown"][:20]] == list(range(1, 21))
    assert all(len(curve["epochs"]) == 100 for curve in found["shown"][:20])
    rest = found["shown"][20:]
    assert all(len(curve["epochs"]) == 60 and curve["thinned"] for curve in rest)
    assert all((curve["epochs"][0], curve["epochs"][-1]) == (1, 100) for curve in rest)
    assert max(b["rank"] - a["rank"] for a, b in itertools.pairwise(rest)) <= 2  # evenly, to the last


def test_what_failed_trials_have_in_common(tmp_path: Path) -> None:
    space = SearchSpace({"lr": Float(1e-5, 1e-1, "log"), "drop": Float(0, 1), "batch_size": 32}).to_json()
    # Half of all have the drop of those that fail, which is chance.
    configs = [{"lr": 10 ** (-1 - i / 10), "drop": (i * 0.01) % 0.02, "batch_size": 32} for i in range(30)]
    lines: list[Any] = [suggest(f"t{i:05d}", **config) for i, config in enumerate(configs)]
    for i in range(30):
        bad = i < 4  # those of the highest learning rates
        lines.append(result(f"t{i:05d}", 1, float("nan") if bad else 0.5, "diverged" if bad else "complete"))
        lines.append(end(f"t{i:05d}", "diverged", "loss at epoch 1") if bad else end(f"t{i:05d}", "completed", "done"))
    found = told(written_run(tmp_path / "run", *lines, space=space))
    ((own,),) = [cause["in_common"] for cause in found["failures"]]
    assert (own["parameter"], own["others_there"], own["others"]) == ("lr", 0, 26)
    assert own["low"] == pytest.approx(10**-1.3)
    assert own["high"] == pytest.approx(0.1)
    assert "all with lr 0.050119 to 0.1 (so 0 of 26 that ended well)" in topics(found)["What failed"]


def test_a_curve_goes_on_where_a_trial_was_set_back(tmp_path: Path) -> None:
    found = facts(load_results(pbt_run(tmp_path / "run")))["curves"]["shown"][0]
    assert (found["trial"], found["epochs"]) == ("t00002", [1, 2, 3, 4, 5, 6])
    assert found["values"] == [0.7, 0.62, 0.65, 0.66, 0.9, 0.8]


def test_every_strange_run_has_a_document_or_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, run in strange_runs(tmp_path / "runs").items():
        assert main(["report", str(run), "--json"]) == 0, name
        found = json.loads(capsys.readouterr().out)["runs"][0]
        assert found["run"]["run_dir"] == str(run)
        assert [own["topic"] for own in found["summary"]][:2] == ["What was searched", "How it stands"]
        for kind in KINDS:
            for panel in panels(found, kind):
                json.dumps(panel.spec, allow_nan=False)
    assert main(["report", str(tmp_path)]) == 2
    assert "run directory" in capsys.readouterr().err


def test_values_beyond_reason_have_a_document_and_figures(tmp_path: Path) -> None:
    runs = beyond_reason(tmp_path)
    for run in runs.values():
        found = told(run)
        json.dumps(found, allow_nan=False)
        for kind in KINDS:
            for panel in panels(found, kind):
                json.dumps(panel.spec, allow_nan=False)
    ends = told(runs["two ends"])
    assert ends["best"]["margin"] is None  # no float is as much
    assert "at epoch 1, better than the next best, t00001." in topics(ends)["What won"]
    (panel,) = panels(ends, "parallel")
    low, high = panel.traces[0]["dimensions"][-1]["range"]
    assert low < high
    assert "as well as the best tenth" in ends["importance"]["ped_anova"]["missing"]
    assert "30 trials" not in told(runs["one inside"])["importance"]["verdict"]


def test_every_figure_is_one_of_plotlys(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    seen = set()
    for run in (hostile_run(tmp_path / "a"), pbt_run(tmp_path / "b")):
        results = load_results(run)
        found = facts(results)
        for kind in KINDS:
            if panels(found, kind):
                seen.add(kind)
                assert results.figure(kind).data  # plotly's own validation
    assert seen == KINDS.keys() - {"rounds"}


def test_what_is_not_there_is_no_figure(tmp_path: Path) -> None:
    from raytune_hpo.errors import ExperimentError

    results = load_results(pbt_run(tmp_path / "run"))
    with pytest.raises(ExperimentError, match="did you mean 'lineage'"):
        results.figure("linage")
    with pytest.raises(ExperimentError, match="nothing to show for it; it has curves, best"):
        results.figure("rounds")


def test_a_parameter_that_is_not_set_stands_beside_its_axis(tmp_path: Path) -> None:
    found = facts(load_results(hostile_run(tmp_path / "run")))
    (panel,) = panels(found, "parallel")
    dimensions = {own["label"]: own for own in panel.traces[0]["dimensions"]}
    momentum = dimensions["momentum"]
    assert momentum["ticktext"][0] == "not set"
    below = [place for place in momentum["values"] if place < 0]
    assert len(below) == 22  # two of three, and the two that ended badly
    assert all(0 <= place <= 1 for place in dimensions["lr"]["values"])
    # lr's own scale: a tenth of a range of three decades is a third of the axis.
    places = dict(zip(panel.traces[0]["customdata"], dimensions["lr"]["values"], strict=True))
    config = {row["trial_id"]: row["config"]["lr"] for row in found["trials"]}
    low, high = min(places, key=places.__getitem__), max(places, key=places.__getitem__)
    assert config[low] < config[high]


def said(run: Path, topic: str) -> str | None:
    return topics(told(run)).get(topic)


def test_nobody_has_won_before_the_end(tmp_path: Path) -> None:
    reported = [suggest("t00000"), result("t00000", 1, 0.5)]
    for name, last in (("killed", []), ("interrupted", [Closed(RunStatus.INTERRUPTED)])):
        run = written_run(tmp_path / name, SessionOpened(1), *reported, *last)
        assert told(run)["run"]["status"] == name
        assert (said(run, "What won") or "").startswith("t00000 leads with")


def test_what_is_said_where_there_is_no_winner(tmp_path: Path) -> None:
    nan = [suggest("t00000"), result("t00000", 1, float("nan"), "diverged"), end("t00000", "diverged", "at epoch 1")]
    failed = [suggest("t00000"), end("t00000", "failed", "error", "x" * 10_000)]
    closed = Closed(RunStatus.FINISHED)
    assert "No trial has won" in (said(written_run(tmp_path / "nan", SessionOpened(1), *nan, closed), "What won") or "")
    run = written_run(tmp_path / "failed", SessionOpened(1), *failed, closed)
    assert said(run, "What won") == "No trial has reported."
    assert len(said(run, "What failed") or "") < 400
    (block,) = (own for own in sections([told(run)]) if own.id == "failures")
    assert all(len(title) < 400 for title, _ in block.blocks[0].outputs)
    assert said(written_run(tmp_path / "begun", SessionOpened(1)), "What won") == "No trial has reported yet."


def test_what_cannot_be_done_is_not_told_to_do(tmp_path: Path) -> None:
    """One config is not confirmed; a trainable of one's own has no test split, and no models that an ensemble reads."""
    data = DataLoaded((64,), "float32", 100, 20)
    lines = [suggest("t00000"), result("t00000", 1, 0.5), end("t00000", "completed", "max_epochs")]
    more = [suggest("t00001", lr=0.02), result("t00001", 1, 0.4), end("t00001", "completed", "max_epochs")]
    saved = [checkpoint("t00000", 1)]
    closed = Closed(RunStatus.FINISHED)
    going_on = RunDirectory(written_run(tmp_path / "going on", suggest("t00000"), end("t00000", "failed", "e", "x")))
    going_on.lock()
    assert [own["command"].split()[1] for own in told(going_on.path)["commands"]] == ["watch", "run"]
    alike = [suggest("t00000"), end("t00000", "failed", "error", "x"), Closed(RunStatus.INTERRUPTED, "y" * 10_000)]
    found = told(written_run(tmp_path / "alike", SessionOpened(1), *alike))
    assert [own["command"].split()[1] for own in found["commands"]] == ["retry", "resume", "run"]
    assert len(topics(found)["How it stands"]) < 400
    failed = [suggest("t00000"), end("t00000", "failed", "error", "x"), RunStopped("time budget"), closed]
    assert (
        told(written_run(tmp_path / "stopped", SessionOpened(1), *failed))["commands"][0]["command"].split()[1] == "run"
    )
    going_on.unlock()
    runs = {
        "one": [SessionOpened(1), data, *lines, *saved, Closed(RunStatus.FINISHED)],
        "two": [SessionOpened(1), data, *lines, *saved, *more, Closed(RunStatus.FINISHED)],
        "function": [SessionOpened(1), *lines, *more, Closed(RunStatus.FINISHED)],
    }
    verbs, sure, test = {}, {}, {}
    for name, steps in runs.items():
        found = told(written_run(tmp_path / name, *steps))
        verbs[name] = [own["command"].split()[1] for own in found["commands"]]
        sure[name], test[name] = (topics(found).get(own) for own in ("How sure that is", "On the test split"))
    assert verbs["one"] == ["export", "run"]
    assert verbs["two"] == ["confirm", "export", "ensemble", "run"]
    assert verbs["function"] == ["confirm", "run"]
    assert (sure["one"], test["function"]) == (None, None)
    assert sure["two"]
    assert test["two"]


def test_an_empty_test_split_has_no_figures(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    subject = {"trial": "t00001", "checkpoint": "checkpoints/t00001/00-00002.1", "epoch": 2}
    seal(run, subject, {"test_loss": math.nan})
    (run / "test.json").write_text((run / "test.json").read_text().replace("NaN", "null"))
    assert "no finite figure" in (said(run, "On the test split") or "")


def confirmed(run: Path, winner: str, searched_best: str) -> None:
    """A confirm.json by which `winner` is best of the two."""
    interval = {"estimate": 0.9, "low": 0.8, "high": 1.0}
    configs = [
        {"trial": trial, "config": {"lr": 0.01}, "search": {"metric": 0.9, "epoch": 1}, "mean": interval,
         "behind": None, "beaten": False, "failures": []}
        for trial in (winner, "t00000")
    ]  # fmt: skip
    told = {"verdict": "winner", "reason": "beyond noise", "metric": "validation_accuracy", "winner": winner}
    told |= {
        "searched_best": searched_best,
        "tied": [],
        "seeds": 5,
        "naive": None,
        "optimism": None,
        "configs": configs,
    }
    (run / "confirm.json").write_text(json.dumps(told))


def test_the_confirmed_winner_may_be_another_than_the_searchs(tmp_path: Path) -> None:
    lines = [suggest("t00000"), result("t00000", 1, 0.5), checkpoint("t00000", 1), suggest("t00001", lr=0.02)]
    lines += [result("t00001", 1, 0.6), checkpoint("t00001", 1), Closed(RunStatus.FINISHED)]
    run = written_run(tmp_path / "run", SessionOpened(1), *lines)
    confirmed(run, winner="t00000", searched_best="t00001")
    assert (said(run, "How sure that is") or "").startswith(
        "Confirmed with 5 repetitions of the best 2 configs: t00000"
    )
    assert f"raytune-hpo export {run} --trial t00000 -o model" in (said(run, "What comes next") or "")
    assert "Since then" not in (said(run, "How sure that is") or "")
    confirmed(run, winner="t00000", searched_best="t00000")  # before the search had gone on
    assert "a better one, t00001, which is not confirmed" in (said(run, "How sure that is") or "")
    confirmed(run, winner="<b>", searched_best="t00001")
    assert f"raytune-hpo export {run} -o model" in (said(run, "What comes next") or "")
