"""What a report and a live page cost, of many trials.

    python benchmarks/report.py                        # 10,000 trials, made by lanes.py many: two minutes
    python benchmarks/report.py --run-dir runs/x       # of a run that there is
    python benchmarks/report.py --spread               # configs of ten parameters, reports made up: no training

report   seconds and CPU seconds of `raytune-hpo report`, and the page's size
page     in Chromium (`make browser`): until its table is there; from a brush on parallel coordinates, and from a
         condition typed, until the table has followed
watch    CPU seconds a second of `raytune-hpo watch` with one page open, while somebody writes 100 reports a second to a
         journal of 1,000 trials; and from a report's line in the journal until a client has it
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "tests"), str(HERE.parent / "tests" / "pages")]

SECONDS, RATE = 60, 100


def made_up(path: Path, trials: int) -> Path:
    """A run whose reports follow from a formula, over the space of digits.py."""
    import numpy as np
    from written_run import RUN_ID, written_run

    from raytune_hpo.experiment.file import load_experiment
    from raytune_hpo.journal import chain
    from raytune_hpo.journal.events import (
        Closed,
        Decided,
        Ended,
        Event,
        Executor,
        Reported,
        SessionOpened,
        Started,
        Step,
        Suggested,
    )
    from raytune_hpo.space import SearchSpace
    from raytune_hpo.states import Decision, Outcome, RunStatus

    experiment = load_experiment(str(HERE.parent / "experiments" / "digits.py"))
    description = experiment.to_json()
    space, rng = SearchSpace.from_json(description["space"]), np.random.default_rng(0)
    lines: list[list[Event]] = [[SessionOpened(1, 1, "host", "2026-01-01T00:00:00+0000", Executor.LANES, True)]]
    for i in range(trials):
        trial, config = f"t{i:05d}", space.sample(rng)
        lines.append([Suggested(trial, config), Started(trial, 0, "host", f"host-{i % 4}")])
        quality = 1 / (1 + abs(np.log10(config["lr"]) + 2))
        last = 27 if i % 9 == 0 else 9 if i % 3 == 0 else 3
        for epoch in range(1, last + 1):
            value = float(quality * (1 - np.exp(-epoch / 5)) + rng.normal() * 0.01)
            decision = "complete" if epoch == 27 else "stop" if epoch == last else "continue"
            metrics = {"validation_accuracy": value, "validation_loss": 1 - value, "train_loss": 1 - value}
            lines.append([Reported(trial, 0, epoch, metrics, 0.05), Decided(trial, epoch, Decision(decision))])
        outcome, reason = ("completed", "max_epochs") if last == 27 else ("stopped", "asha")
        lines.append([Ended(trial, Outcome(outcome), reason)])
    lines.append([Closed(RunStatus.FINISHED)])
    written_run(path, **{**description, "num_samples": trials})
    link = chain.Link()
    with (path / "journal.jsonl").open("wb") as file:  # without a sync a line
        for number, events in enumerate(lines, start=1):
            step = Step(number, number / 100, 1e9 + number / 100, tuple(events), link.events)
            line, link = chain.written(step, link, RUN_ID)
            file.write(line)
    return path


def of_lanes(path: Path, trials: int) -> Path:
    subprocess.run(
        [sys.executable, HERE / "lanes.py", "many", "--trials", str(trials), "--keep", path],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return path


def report(run: Path, target: Path, repeats: int) -> None:
    walls, cpus = [], []
    for _ in range(repeats):
        before, began = os.times(), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "raytune_hpo", "report", run, "-o", target], check=True, stdout=subprocess.DEVNULL
        )
        after = os.times()
        walls.append(time.perf_counter() - began)
        cpus.append(after.children_user + after.children_system - before.children_user - before.children_system)
    size = target.stat().st_size / 1e6
    print(f"report: {statistics.median(walls):.1f} s, {statistics.median(cpus):.1f} s of CPU; {size:.1f} MB")


def page(target: Path, repeats: int) -> None:
    from browsers import browser, why_not

    why = why_not()
    if why is not None:
        print(f"page: not measured, {why}")
        return
    from selenium.webdriver.common.keys import Keys

    count = "document.querySelector('.trials .count').textContent"
    with browser() as one:
        began = time.perf_counter()
        one.open(f"file://{target.absolute()}")
        one.until("document.querySelectorAll('.trials tbody tr').length > 0", timeout_s=120)
        opened = time.perf_counter() - began
        one.until("document.getElementById('trials-0-0').querySelector('canvas')", timeout_s=120)
        time.sleep(3)
        one.script(
            """
            const own = document.querySelector('.trials .count');
            addEventListener('mouseup', () => { window.began = performance.now(); }, true);
            addEventListener('input', () => { window.began = performance.now(); }, true);
            new MutationObserver(() => requestAnimationFrame(() => { window.took = performance.now() - window.began; }))
                .observe(own, { childList: true });
            """
        )
        brushes, words = [], []
        axis = one.driver.find_elements("css selector", "#trials-0-0 .axis-brush")[0]
        field = one.driver.find_element("css selector", ".trials input")
        for i in range(repeats):
            brushes += [_took(one, lambda i=i: _drag(one, axis, 40 + 10 * i)), _took(one, lambda: _drag(one, axis, 0))]
            words.append(_took(one, lambda i=i: field.send_keys(f"best_epoch>{i + 5}")))
            words.append(_took(one, lambda: field.send_keys(Keys.CONTROL + "a", Keys.DELETE)))
        shown = one.script(f"return {count}")
        brush, word = (f"{statistics.median(own):.0f} ms ({max(own):.0f} at most)" for own in (brushes, words))
        print(f"page: there after {opened:.1f} s; {shown}; a brush {brush}, a condition {word}")


def _took(one: Any, act: Any) -> float:
    """Milliseconds from the last key or button until the table had followed."""
    one.script("window.took = null")
    act()
    return float(one.until("window.took", timeout_s=60))


def _drag(one: Any, axis: Any, pixels: int) -> None:
    """A brush of so many pixels on an axis; of none, a click, which takes it away."""
    from selenium.webdriver import ActionChains

    acts = ActionChains(one.driver, duration=50).move_to_element_with_offset(axis, 0, -40).click_and_hold()
    (acts.move_by_offset(0, pixels) if pixels else acts).release().perform()


def watch(folder: Path) -> None:
    from served import live_journal
    from written_run import result, suggest

    run = folder / "live"
    with live_journal(run) as append:
        trials = [f"t{i:05d}" for i in range(1000)]
        for trial in trials:
            append(suggest(trial), *result(trial, 1, 0.5))
        command = [sys.executable, "-m", "raytune_hpo", "watch", run]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                link = server.stdout.readline().strip()
                shown = urllib.request.urlopen(link, timeout=60).read().decode()
                delays: list[float] = []
                written: dict[tuple[str, int], float] = {}
                threading.Thread(target=_received, args=(link, shown, written, delays), daemon=True).start()
                time.sleep(5)  # its first document is made, with all that has to be imported for it
                cpu, began = _cpu(server.pid), time.monotonic()
                for i in range(SECONDS * RATE):
                    trial, epoch = trials[i % len(trials)], 2 + i // len(trials)
                    written[trial, epoch] = time.monotonic()
                    append(*result(trial, epoch, 0.5 + i / 1e5))
                    time.sleep(max(0.0, began + (i + 1) / RATE - time.monotonic()))
                took = time.monotonic() - began
                used = (_cpu(server.pid) - cpu) / took
                time.sleep(2)
            finally:
                server.kill()
    slow = sorted(delays)
    print(
        f"watch: {used:.1%} of a core over {took:.0f} s at {SECONDS * RATE / took:.0f} reports a second; "
        f"{len(slow)} of {SECONDS * RATE} received, after {statistics.median(slow):.2f} s ({slow[-1]:.2f} at most)"
    )


def _received(link: str, shown: str, written: dict[tuple[str, int], float], delays: list[float]) -> None:
    from test_page import data_of

    version: Any = data_of(shown)["version"]
    assert re.match("http", link)
    for line in urllib.request.urlopen(f"{link}events?since={version}", timeout=120):
        if line.startswith(b"data: "):
            now = time.monotonic()
            for trial, epoch, _ in json.loads(line[6:]).get("points", ()):
                if (trial, epoch) in written:
                    delays.append(now - written[trial, epoch])


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--spread", action="store_true")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=("report", "page", "watch"), default=["report", "page", "watch"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "report.html"
        if {"report", "page"} & set(options.parts):
            make = made_up if options.spread else of_lanes
            run = options.run_dir or make(Path(folder) / "run", options.trials)
            report(run, target, options.repeats)
        if "page" in options.parts:
            page(target, options.repeats)
        if "watch" in options.parts:
            watch(Path(folder))


if __name__ == "__main__":
    main()
