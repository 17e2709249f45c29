"""The demo page as a Space serves it and a visitor uses it: in Chromium, from the upload to the downloaded file."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mvat_hf.app import EXAMPLE
from mvat_hf.inference.enhancing import enhance
from mvat_hf.models import DEFAULT_MODEL

pytest.importorskip("gradio", reason="needs gradio")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
wait = pytest.importorskip("selenium.webdriver.support.wait", reason="needs selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("needs chromium and chromedriver", allow_module_level=True)

REPOSITORY = Path(__file__).parents[1]
PATIENCE = 60  # seconds for what takes two on an idle machine
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the page answers: the folder of the Space with the package in it, as `scripts/space/app.py` says."""
    folder = tmp_path_factory.mktemp("space")
    shutil.copytree(REPOSITORY / "scripts" / "space", folder, dirs_exist_ok=True)
    shutil.copytree(REPOSITORY / "src" / "mvat_hf", folder / "mvat_hf")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "GRADIO_TEMP_DIR": str(folder / "files")}
    server = subprocess.Popen(
        [sys.executable, "-u", "app.py"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    lines = []
    for line in server.stdout:
        lines.append(line)
        if found := re.search(r"http://0\.0\.0\.0:(\d+)", line):
            break
    else:
        pytest.fail(f"app.py ended with status {server.wait()}: {''.join(lines)}")
    yield f"http://127.0.0.1:{found[1]}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """What a visitor does and sees."""

    def __init__(self, browser, address: str):
        self.browser = browser
        browser.get(address)
        self.wait_for("input[type=file]")

    def wait_until(self, condition):
        return wait.WebDriverWait(self.browser, PATIENCE, 0.1).until(lambda _: condition())

    def wait_for(self, selector: str):
        return self.wait_until(lambda: self.browser.find_elements("css selector", selector))[0]

    def upload(self, path: Path) -> None:
        self.wait_for("input[type=file]").send_keys(str(path))
        self.wait_for("button[aria-label=Clear]")

    def enhance(self) -> str:
        """Press the button; the report that follows."""
        self.wait_for("#enhance").click()
        return self.wait_until(lambda: self.wait_for("#report textarea").get_attribute("value"))

    def download(self, folder: Path) -> Path:
        """Press the button beside the second player; the file that it gives."""
        self.browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder), "eventsEnabled": True}
        )
        self.wait_for("button[aria-label=Download]").click()
        return self.wait_until(lambda: next(folder.glob("*.wav"), None))

    def pictures(self) -> int:
        """How many pictures are shown, fully loaded."""
        script = "return [...document.querySelectorAll('img[alt^=Spectrogram]')].filter(i => i.naturalWidth).length"
        return self.browser.execute_script(script)

    def foreign_requests(self) -> list[str]:
        """Addresses other than the page's that were asked for since this was last called."""
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        own = (self.browser.current_url, "blob:", "data:", "chrome:")
        return [address for address in asked if not address.startswith(own)]


@pytest.fixture
def page(browser, address):
    return Page(browser, address)


def test_from_upload_to_download_without_a_foreign_request(page, tmp_path):
    source = tmp_path / "noisy speech.wav"
    soundfile.write(source, 0.1 * np.random.default_rng(0).standard_normal((22050, 2)), 22050)
    page.upload(source)
    assert re.match(r"1\.00 s of audio in \d+\.\d\d s: real-time factor \d+\.\d{3} ", page.enhance())
    page.wait_until(lambda: page.pictures() == 2)
    downloaded = page.download(tmp_path / "downloads")
    assert downloaded.name == "noisy speech_enhanced.wav"
    audio, rate = soundfile.read(downloaded)
    assert rate == 22050
    # 16 bits, and the page keeps the input 100 dB below its level
    np.testing.assert_allclose(audio, enhance(DEFAULT_MODEL, source)["audio"].T.clip(-1, 1), atol=1e-4)
    assert page.foreign_requests() == []


def test_a_broken_file_is_a_message(page, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"not audio at all")
    page.upload(tmp_path / "broken.wav")
    assert page.enhance().startswith("error: broken.wav cannot be read as audio: its format is none")
    assert page.pictures() == 0


def test_the_example_is_a_click_away(page, tmp_path):
    page.wait_for(".gallery-item").click()
    page.wait_for("button[aria-label=Clear]")
    assert page.enhance().startswith("5.11 s of audio in ")
    downloaded = page.download(tmp_path)
    np.testing.assert_allclose(soundfile.read(downloaded)[0], enhance(DEFAULT_MODEL, EXAMPLE)["audio"], atol=1e-4)


def test_a_recording_from_the_microphone_with_the_embedded_model(page):
    page.wait_for("button[aria-label='Record audio']").click()
    page.wait_for("button.record-button").click()
    page.wait_for("button.stop-button").click()
    page.wait_for("button[aria-label=Clear]")
    assert "real-time factor" in page.enhance()
