"""A real browser for the tests of pages: Debian's Chromium, without a window, driven by selenium."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SWITCHES = (
    "--headless",
    "--no-sandbox",  # as root in a container there is none to be had
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def unavailable() -> str | None:
    """Why there is no browser here, or None."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed"
    if CHROMIUM is None or DRIVER is None:
        return "Debian's chromium and chromium-driver are not installed"
    return None


class Browser:
    """One Chromium with what tests ask of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        """Load a page from disk in a window of this size, with all logs empty."""
        self.frame(width, height, scheme)
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(page.resolve().as_uri())

    def frame(self, width: int, height: int = 900, scheme: str = "light", mobile: bool = False) -> None:
        """Change the size of the page and the colours that the user prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def js(self, code: str, *values: Any) -> Any:
        """What a function body returns in the page."""
        return self.driver.execute_script(code, *values)

    def problems(self) -> list[str]:
        """What the page wrote to its console as errors or warnings since it was opened."""
        said = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]
        return [words for words in said if "Multiple readback operations" not in words]  # the tests' own reading

    def requests(self) -> list[str]:
        """The URLs that the page asked for since it was opened, its own among them."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [event["request"]["url"] for event in sent]


@contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile, until the block ends."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(executable_path=DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
