"""Reports and live pages in a browser. Skipped, with the reason, where there is none: `make browser`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import Browser, browser
from hostile import hostile_run, pbt_run, trials_of
from served import live_journal, served
from written_run import result, suggest

from raytune_hpo import Experiment, Float, load_results
from raytune_hpo import run as run_experiment
from raytune_hpo.cli.main import main
from raytune_hpo.pages.document import document
from raytune_hpo.pages.page import page
from raytune_hpo.pages.sections import SECTIONS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


def report_of(run: Path, *more: Path) -> str:
    target = run.parent / f"{run.name}.html"
    assert main(["report", *map(str, (run, *more)), "-o", str(target)]) == 0
    return f"file://{target}"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, experiments: Path) -> Path:
    """A real run, in this process."""
    from raytune_hpo.experiment.file import load_experiment

    folder = tmp_path_factory.mktemp("digits")
    changes = {"num_samples": 24, "max_epochs": 9, "executor": "inline", "storage": str(folder)}
    experiment: Experiment = load_experiment(str(experiments / "digits.py")).override(changes)
    return run_experiment(experiment, folder / "run", quiet=True).run_dir


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory, experiments: Path) -> Path:
    from raytune_hpo.experiment.file import load_experiment

    folder = tmp_path_factory.mktemp("pbt")
    changes = {"num_samples": 8, "max_epochs": 8, "executor": "inline", "scheduler": "pbt", "storage": str(folder)}
    experiment: Experiment = load_experiment(str(experiments / "digits.py")).override(changes)
    return run_experiment(experiment, folder / "run", quiet=True).run_dir


def opened(chromium: Browser, url: str, width: int = 1440, theme: str = "light") -> None:
    chromium.open(url, width, theme)
    chromium.until("document.querySelectorAll('.trials tbody tr').length > 0")


def test_a_trial_is_commanded_by_buttons(chromium: Browser, digits: Path) -> None:
    with served(digits, control=True) as url:
        opened(chromium, url)
        assert chromium.script("return document.querySelector('.acts .buttons').hidden")
        chromium.script("document.querySelector('.trials tbody button').click()")
        trial = chromium.script("return document.querySelector('.acts .which').textContent")
        chromium.script("document.querySelector('[data-act=stop]').click()")
        chromium.until("document.querySelector('.acts .wrong')?.textContent.includes('has ended')")
        chromium.script("document.querySelector('[data-for=mark]').value = 'seen-by-a-browser'")
        chromium.script("document.querySelector('[data-act=tag]').click()")
        chromium.until("document.querySelector('.acts [role=status]').textContent.includes('seen-by-a-browser')")
        assert not chromium.script("return document.querySelector('.acts .wrong')")
        assert chromium.axe() == []
    assert "seen-by-a-browser" in load_results(digits).ledger.trials[trial].tags


@pytest.mark.parametrize("kind", ["digits", "population"])
def test_a_report_opens_from_a_disk(kind: str, chromium: Browser, request: pytest.FixtureRequest) -> None:
    run: Path = request.getfixturevalue(kind)
    url = report_of(run)
    opened(chromium, url)
    chromium.draw_all()
    requests, errors = chromium.requests_and_errors()
    assert requests == [url]  # and nothing else
    assert errors == []
    found = set(chromium.script("return [...document.querySelectorAll('section')].map((own) => own.id)"))
    expected = {"summary", "trials", *SECTIONS} - {"rounds", "failures"}
    assert found == expected - ({"lineage", "schedule"} if kind == "digits" else {"rungs"})
    looks = {"digits": (("light", 1440), ("dark", 400)), "population": (("dark", 1440), ("light", 400))}
    for theme, width in looks[kind]:
        opened(chromium, url, width, theme)
        assert chromium.axe() == []
        assert chromium.script("return document.documentElement.scrollWidth") == width
        assert chromium.script("return document.documentElement.dataset.theme") == theme


def test_filters_change_the_table(digits: Path, chromium: Browser) -> None:
    opened(chromium, report_of(digits))
    rows = document(load_results(digits))["trials"]
    count = "document.querySelector('.trials .count').textContent"
    assert chromium.script(f"return {count}") == "24 trials"
    kept = sum(row["config"]["optimizer"] == "adam" for row in rows)
    assert 0 < kept < 24
    chromium.until("document.getElementById('trials-0-0').querySelector('canvas')")
    brush = "Plotly.restyle('trials-0-0', {'dimensions[1].constraintrange': [[[0.5, 1]]]})"  # optimizer: sgd, adam
    chromium.script(brush)
    chromium.until(f"{count} === '{kept} of 24 trials'")
    field = chromium.driver.find_element("css selector", ".trials input")
    field.send_keys("lr<0.01 status=stopped")
    both = sum(
        row["config"]["optimizer"] == "adam" and row["config"]["lr"] < 0.01 and row["status"] == "stopped"
        for row in rows
    )
    chromium.until(f"{count} === '{both} of 24 trials'")
    chromium.driver.find_element("css selector", ".trials .clear").click()
    field.clear()
    field.send_keys("nonsense<1")
    chromium.until("document.querySelector('.trials [role=alert]').textContent.includes('not read: nonsense<1')")
    field.clear()
    field.send_keys(" ")
    chromium.until(f"{count} === '24 trials'")
    chromium.driver.find_element("xpath", "//th/button[text()='lr']").click()
    first = "Number(document.querySelector('.trials tbody tr').children[3].querySelector('data').value)"
    assert chromium.until(first) == min(row["config"]["lr"] for row in rows)


def test_parameters_may_have_the_names_of_our_columns(tmp_path: Path, chromium: Browser) -> None:
    space = {name: Float(0, 1) for name in ("best", "status", "epochs")}
    run = trials_of(tmp_path / "run", lambda i: i / 30, lambda i: dict.fromkeys(space, i / 60), **space)
    opened(chromium, report_of(run))
    heads = chromium.script("return [...document.querySelectorAll('.trials th')].map((own) => own.textContent)")
    assert heads == ["trial_id", "validation_accuracy", *space, "status", "best_epoch", "epochs", "reason", "seconds"]
    field = chromium.driver.find_element("css selector", ".trials input")
    for text, count in (
        ("config.epochs<0.1 status=completed", 6),
        ("epochs=1", 30),
        ("best>=0.5", 15),
        ("config.best<0.1", 6),
        ("validation_accuracy<0.1", 3),
    ):
        field.clear()
        field.send_keys(text)
        shown = "30 trials" if count == 30 else f"{count} of 30 trials"
        chromium.until(f"document.querySelector('.trials .count').textContent === '{shown}'", timeout_s=10)


def test_no_text_of_a_run_acts(tmp_path: Path, chromium: Browser) -> None:
    run, other = hostile_run(tmp_path / "run"), pbt_run(tmp_path / "pbt")
    opened(chromium, report_of(run, other))
    chromium.draw_all()  # an alert would end the next call
    requests, errors = chromium.requests_and_errors()
    assert (len(requests), errors) == (1, [])
    assert chromium.script("return document.querySelectorAll('main script, main b, .plot b').length") == 0
    assert "<script>alert(1)</script>" in chromium.script("return document.body.textContent")
    assert chromium.axe() == []


def test_a_live_page_shows_a_report_within_two_seconds(tmp_path: Path, chromium: Browser) -> None:
    with live_journal(tmp_path / "run") as append, served(tmp_path / "run") as url:
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        opened(chromium, url)
        chromium.until("document.getElementById('link').textContent.startsWith('live')")
        for epoch in (2, 3):
            append(*result("t00000", epoch, 0.5 + epoch / 100))
            chromium.until(f"document.querySelector('#status').textContent.includes('{epoch} epochs')", timeout_s=20)
            cell = "document.querySelector('.trials tbody tr').children[1].textContent"
            chromium.until(f"{cell} === '0.5{epoch}'", timeout_s=20)
        append(suggest("t00001"), *result("t00001", 1, 0.9))
        chromium.until("document.querySelectorAll('.trials tbody tr').length === 2", timeout_s=20)
        chromium.until("document.querySelector('#status').textContent.includes('by t00001')", timeout_s=20)
        # The sections follow more seldom.
        chromium.until("document.querySelector('#summary').textContent.includes('t00001')", timeout_s=60)
        requests, errors = chromium.requests_and_errors()
        assert all(own.startswith(url.rsplit("/", 2)[0]) for own in requests)
        assert errors == []
        chromium.open("about:blank")  # before its server ends


@pytest.mark.large
def test_three_browsers_at_once(tmp_path: Path) -> None:
    """How long after its journal line a report is seen: 2 s at most, in each."""
    with live_journal(tmp_path / "run") as append, served(tmp_path / "run") as url:
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        with browser() as a, browser() as b, browser() as c:
            for one in (a, b, c):
                opened(one, url)
                one.until("document.getElementById('link').textContent.startsWith('live')")
            slowest = 0.0
            for epoch in range(2, 8):
                seen: dict[int, float] = {}

                def look(i: int, one: Browser, epoch: int = epoch, seen: dict[int, float] = seen) -> None:
                    one.until(f"document.querySelector('#status').textContent.includes('{epoch} epochs')")
                    seen[i] = time.monotonic()

                watching = [threading.Thread(target=look, args=(i, one)) for i, one in enumerate((a, b, c))]
                began = time.monotonic()
                append(*result("t00000", epoch, 0.5 + epoch / 100))
                for thread in watching:
                    thread.start()
                for thread in watching:
                    thread.join()
                slowest = max(slowest, *(at - began for at in seen.values()))
                assert len(seen) == 3
            print(f"the slowest of 18: {slowest:.2f} s")
            assert slowest < 2


def test_the_page_of_several_runs(tmp_path: Path, digits: Path, population: Path, chromium: Browser) -> None:
    target = tmp_path / "both.html"
    target.write_text(page([document(load_results(run)) for run in (digits, population)]))
    opened(chromium, f"file://{target}")
    chromium.draw_all()
    assert chromium.script("return document.querySelectorAll('.trials tbody').length") == 2
    axes = "['curves-0-0', 'curves-1-0'].map((id) => document.getElementById(id).layout.yaxis.range.join())"
    one, other = chromium.script(f"return {axes}")
    assert one == other
    assert chromium.requests_and_errors()[1] == []


def test_the_list_of_runs_follows_them_light_or_dark(tmp_path: Path, chromium: Browser) -> None:
    (tmp_path / "runs").mkdir()
    pbt_run(tmp_path / "runs" / "one")
    with served(tmp_path / "runs") as url:
        for theme, lightness in (("light", "255"), ("dark", "20")):
            chromium.open(url, 400, theme)
            chromium.until("document.querySelector('a[href=\"runs/one/\"]')")
            color = chromium.script("return getComputedStyle(document.body).backgroundColor")
            assert color.startswith(f"rgb({lightness},")
            assert chromium.axe() == []
        pbt_run(tmp_path / "runs" / "two")
        chromium.until("document.querySelector('a[href=\"runs/two/\"]')")
        assert chromium.requests_and_errors()[1] == []
        chromium.open("about:blank")
