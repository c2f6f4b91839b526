"""Pictures of MLflow's pages of a lifecycle, for docs/images/mlflow: `python docs/screenshots.py --help`.

Starts MLflow's own server on loopback over the database of a lifecycle, opens its pages in a headless Chromium (Debian:
`apt install chromium`), waits until they have stopped changing and writes them as PNG. Ends both.

    python docs/screenshots.py outputs/mlflow.db --recipe laptop --scene first
    python docs/screenshots.py outputs/mlflow.db --recipe laptop --scene second --compare sft@6 sft@7
    python docs/screenshots.py outputs/mlflow.db --recipe laptop --scene refused --version sft@8 --pages version
"""

import argparse
import base64
import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

PAGES = ("experiment", "lifecycle", "charts", "phase", "data", "model", "version")
WIDTH, HEIGHT = 1360, 1500
COLOURS = 128  # of a PNG's palette; a page has few
LARGEST = 200_000  # bytes of a picture
# What a person would click at: the panel beside the page closed, descriptions and nested runs opened, differences of
# two runs alone.
CLICKS = """(() => {
  document.querySelector('[data-component-id="mlflow.assistant.chat_panel.close"]')?.click();
  for (const one of document.querySelectorAll('button, label, span, a')) {
    const said = one.innerText?.trim();
    if (one.clicked || !['Show more', 'Show diff only'].includes(said)) continue;
    if (one.querySelector('button, label, span')?.innerText?.trim() === said) continue;
    one.clicked = true;
    one.click();
  }
  const nested = document.querySelectorAll('[data-component-id$="runnamecellrenderer.tsx_46"]');
  if (nested.length && !window.opened) nested.forEach(one => one.click());
  window.opened ||= nested.length > 0;
})()"""
TRAINING = """[...document.querySelectorAll('button, label, span, div[role=radio]')]
  .filter(one => one.innerText?.trim() === 'Model training').at(-1)?.click()"""
LENGTH = "document.body.innerText.length + '/' + document.images.length + '/' + document.querySelectorAll('svg').length"


@contextlib.contextmanager
def served(database: Path) -> Iterator[str]:
    """The address of an MLflow server over a SQLite file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{database.resolve()}"]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with tempfile.TemporaryDirectory() as folder, open(Path(folder, "log"), "wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _wait(address: str, process: "subprocess.Popen[bytes]", seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(address, timeout=5).close()
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"nothing answers at {address}: MLflow's server has not started")
        time.sleep(0.5)


class Browser:
    """A headless Chromium, spoken to by its debugging protocol."""

    def __init__(self, folder: Path) -> None:
        import websocket

        program = shutil.which("chromium") or shutil.which("google-chrome")
        if not program:
            sys.exit("there is no chromium: apt install chromium")
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0",
            "--remote-allow-origins=*", f"--user-data-dir={folder}", f"--window-size={WIDTH},{HEIGHT}",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [program, *options, "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        place = folder / "DevToolsActivePort"
        deadline = time.monotonic() + 120
        while not (place.exists() and place.read_text().strip()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{program} has not started")
            time.sleep(0.2)
        port = place.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=60) as answer:
            [page, *_] = [one for one in json.load(answer) if one["type"] == "page"]
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=120)
        self.numbers = itertools.count(1)
        self.ask("Page.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self.socket.recv())
            if said.get("id") == number:
                if "error" in said:
                    sys.exit(f"chromium: {method}: {said['error']['message']}")
                return dict(said["result"])

    def evaluate(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def open(self, address: str, still: float = 4.0, seconds: float = 90.0) -> None:
        """Returns when the page has not changed for `still` seconds."""
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=address)
        before, since, deadline = "", time.monotonic(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.5)
            self.evaluate(CLICKS)
            now = str(self.evaluate(LENGTH))
            if now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > still and int(now.split("/")[0]) > 200:
                return

    def picture(self, height: int) -> bytes:
        """As PNG, of few colours."""
        from PIL import Image

        self.ask("Emulation.setDeviceMetricsOverride", width=WIDTH, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(1.5)  # for what is drawn again at that size
        taken = base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])
        image = Image.open(io.BytesIO(taken)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        out = io.BytesIO()
        image.save(out, "PNG", optimize=True)
        return out.getvalue()

    def close(self) -> None:
        self.socket.close()
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()


def addresses(client: Any, recipe: str, wanted: str, compare: list[str]) -> dict[str, str]:
    """Where MLflow's UI has each page, after the address of the server."""
    name = f"k2-{recipe}"
    experiment = client.get_experiment_by_name(f"k2/{recipe}")
    if experiment is None:
        sys.exit(f"there is no experiment k2/{recipe}; name the recipe of the lifecycle (--recipe)")
    number = wanted.rpartition("@")[2] or client.get_model_version_by_alias(name, "candidate").version
    version, place = client.get_model_version(name, str(number)), f"#/experiments/{experiment.experiment_id}"
    run = client.get_run(version.run_id)
    lifecycle = run.data.tags.get("mlflow.parentRunId", version.run_id)
    found = {
        "experiment": f"{place}/runs",
        "lifecycle": f"{place}/runs/{lifecycle}",
        "charts": f"{place}/runs/{lifecycle}/model-metrics",
        "phase": f"{place}/runs/{version.run_id}",
        "model": f"#/models/{quote(name)}",
        "version": f"#/models/{quote(name)}/versions/{number}",
    }
    steps = client.search_runs([experiment.experiment_id], "tags.`k2.step` = 'corpus'")
    if steps:
        found["data"] = f"{place}/runs/{steps[0].info.run_id}"
    if compare:
        runs = [client.get_model_version(name, one.rpartition("@")[2]).run_id for one in compare]
        asked = quote(json.dumps(runs)), quote(json.dumps([experiment.experiment_id]))
        found["compare"] = f"#/compare-runs?runs={asked[0]}&experiments={asked[1]}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, help="MLflow's SQLite file, e.g. outputs/mlflow.db")
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--scene", default="first", help="begins the names of the pictures")
    parser.add_argument("--version", default="", help="such as sft@6; without it the candidate")
    parser.add_argument("--compare", nargs=2, default=[], metavar="VERSION", help="a picture of two runs side by side")
    parser.add_argument("--pages", nargs="*", choices=PAGES, help=f"of {', '.join(PAGES)}; without it all")
    parser.add_argument("--height", type=int, default=HEIGHT, help="pixels of a picture")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "mlflow")
    chosen = parser.parse_args()
    if not chosen.database.is_file():
        parser.error(
            f"{chosen.database} is no file: run a lifecycle first (make lifecycle), or name its K2_HOME/mlflow.db"
        )
    from mlflow import MlflowClient

    wanted = [*(PAGES if chosen.pages is None else chosen.pages), *(["compare"] if chosen.compare else [])]
    places = addresses(
        MlflowClient(f"sqlite:///{chosen.database.resolve()}"), chosen.recipe, chosen.version, chosen.compare
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, served(chosen.database) as server:
        browser = Browser(Path(folder))
        try:
            browser.open(f"{server}/#/experiments")
            browser.evaluate(TRAINING)  # of the two faces of MLflow's UI
            for page in wanted:
                browser.open(f"{server}/{places[page]}")
                file = chosen.out / f"{chosen.scene}-{page}.png"
                file.write_bytes(browser.picture(chosen.height))
                print(f"{file}  {file.stat().st_size:,} bytes", flush=True)
                if file.stat().st_size > LARGEST:
                    print(f"{file} is larger than {LARGEST:,} bytes: lower --height", file=sys.stderr)
        finally:
            browser.close()


if __name__ == "__main__":
    main()
