"""Headless Chromium for tests: Debian's packages, driven by selenium. `make browser` installs both."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-unsafe-swiftshader",  # parallel coordinates are drawn by WebGL
    "--hide-scrollbars",
)
#: What Chromium itself asks for when it starts, and what is in the page.
NO_REQUESTS = ("chrome:", "data:", "blob:", "devtools:")


def why_not() -> str | None:
    """Why there is no browser to test with; None if there is one."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    for module in ("selenium", "axe_playwright_python"):
        try:
            __import__(module.partition(".")[0]) if module == "selenium" else _axe_file()
        except (ImportError, OSError):
            missing.append(module)
    return f"without {', '.join(missing)}: make browser" if missing else None


def _axe_file() -> Path:
    """axe-core, without the package round it, which wants another driver."""
    import importlib.util

    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("axe_playwright_python")
    return Path(spec.submodule_search_locations[0]) / "axe.min.js"


class Browser:
    """One Chromium."""

    def __init__(self) -> None:
        from selenium import webdriver

        self._folder = tempfile.mkdtemp(prefix="raytune_hpo_browser_")
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for argument in (*ARGUMENTS, f"--user-data-dir={self._folder}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(str(shutil.which("chromedriver")))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(60)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.driver.quit()
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, url: str, width: int = 1440, theme: str = "light") -> None:
        self._told()  # of the page before
        media = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(url)

    def _told(self) -> tuple[list[str], list[str]]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        errors = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return urls, errors

    def requests_and_errors(self) -> tuple[list[str], list[str]]:
        """The addresses that were asked for since `open`, the page's own among them; and what the console has."""
        urls, errors = self._told()
        return [url for url in urls if not url.startswith(NO_REQUESTS)], errors

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def until(self, text: str, *arguments: Any, timeout_s: float = 30) -> Any:
        """What the expression gives once it is true."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.script(f"return {text}", *arguments)):
            assert time.monotonic() < deadline, f"never: {text}"
            time.sleep(0.05)
        return found

    def draw_all(self) -> None:
        """Have every figure drawn, as for paper."""
        self.script("dispatchEvent(new Event('beforeprint'))")
        self.until("[...document.querySelectorAll('.plot')].every((own) => own.querySelector('.main-svg, canvas'))")

    def axe(self) -> list[str]:
        """What axe calls serious or critical."""
        self.script(_axe_file().read_text())
        found = self.driver.execute_async_script(
            "const done = arguments[0];"
            "axe.run(document).then((own) => done(own.violations), (own) => done(String(own)));"
        )
        assert isinstance(found, list), found
        return [
            f"{own['id']}: {own['nodes'][0]['html'][:200]} {own['nodes'][0].get('failureSummary', '')[:200]}"
            for own in found
            if own["impact"] in ("serious", "critical")
        ]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    why = why_not()
    if why is not None:
        if os.environ.get("RAYTUNE_HPO_NEEDS_BROWSER"):
            pytest.fail(why)
        pytest.skip(why)
    made = Browser()
    try:
        yield made
    finally:
        made.close()
