"""A headless Chromium, driven through chromedriver; tests that need it are skipped where it is missing."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from services import path_of
from worker_process import wait_until

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)

#: Width and height of a desktop's window, and of a phone's screen.
DESKTOP, PHONE = (1280, 800), (390, 844)

# Text whose colour differs too little from what is behind it, with the ratio; WCAG 2 asks for 4.5.
LOW_CONTRAST = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = numbers(getComputedStyle(at).backgroundColor);
    if (found.length < 4 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const low = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let seen = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
  if (element.closest(".unseen, desc, title, template")) continue;
  const style = getComputedStyle(element);
  const ours = light(numbers(element.closest("svg") ? style.fill : style.color)), behind = light(ground(element));
  const ratio = (Math.max(ours, behind) + 0.05) / (Math.min(ours, behind) + 0.05);
  seen += 1;
  if (ratio < 4.5) low.push([walker.currentNode.data.trim(), ratio]);
}
return [seen, low];
"""


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The texts of elements at one moment, however the page changes meanwhile."""
        script = "return Array.from(document.querySelectorAll(arguments[0]), (element) => element.innerText.trim())"
        return self.run(script, selector)

    def wait_for(self, selector: str, *texts: str) -> None:
        """Wait until the elements have these texts."""
        with_what = f"{selector} says {list(texts)}"
        try:
            wait_until(lambda: self.texts(selector) == list(texts), with_what)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {self.texts(selector)}") from None

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def focused(self) -> str:
        """The text, or the id, of the element that has the focus."""
        return self.run("const it = document.activeElement; return it.id || it.innerText")

    def look(self, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> None:
        """Take the size and the colour scheme of a device."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        media = {"features": [{"name": name, "value": value} for name, value in wishes.items()]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def complaints(self) -> list[str]:
        """What the console of the browser says of errors since the last call: of scripts, and of the page's policy."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]


@contextlib.contextmanager
def opened() -> Iterator[Browser]:
    """A browser with a profile of its own, closed at the end of the block."""
    driver, chromium = path_of("chromedriver", "chromium-driver"), path_of("chromium", "chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        window = webdriver.Chrome(options, Service(driver))
        try:
            yield Browser(window)
        finally:
            window.quit()
