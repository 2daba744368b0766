"""Make the figures of the documentation, in `docs/figures`.

    python docs/make_figures.py
    python docs/make_figures.py --data camvid

The first makes what needs synthetic scenes alone, in about a minute: a question on the page of `a2lc serve`, in a real browser
(extra `dev`, and Chromium). With CamVid, the second also makes the curves of docs/results.md. Their benchmarks take hours; they
are kept in the folder that `--work` names, and go on where they were.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOCS = Path(__file__).resolve().parent
A2LC = [sys.executable, "-m", "a2lc"]
VIEWPORT = {"width": 1280, "height": 800}

BENCHMARKS = ("camvid_gain", "camvid_cpu")
"""Protocols whose curves the documentation shows, each under its own name."""


def main() -> None:
    """Make the figures that the arguments allow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of CamVid; without it, the curves are left as they are")
    parser.add_argument("--work", type=Path, default=Path("bench-figures"), help="folder that keeps the benchmarks")
    parser.add_argument("--out", type=Path, default=DOCS / "figures", help="folder of the figures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        print(make_page(Path(folder), given.out / "serve.png"))
    for name in BENCHMARKS:
        if given.data is None:
            print(f"{given.out / name}.png is left as it is: it needs --data")
        else:
            print(make_curves(name, given.data, given.work / name, given.out / f"{name}.png"))


def make_page(work: Path, target: Path) -> Path:
    """Take a picture of a question in round 2, when the answers of round 1 have taught something."""
    import a2lc
    from a2lc.demo.looks import scene_classes
    from a2lc.demo.scenes import SceneSettings, write_scenes

    sys.path.insert(0, str(DOCS.parent / "examples"))
    from made_up_data import make_probabilities

    data = work / "scenes"
    write_scenes(data, SceneSettings(images=32, validation_images=4, difficulty="hard"))
    folders = {name: data / name for name in ("images", "labels", "masks", "ground_truth")}
    with a2lc.create_project(work / "demo.a2lc", **folders, classes=scene_classes()) as project:
        probabilities = make_probabilities(data, work / "probabilities", skill=0.8)
        project.run(method="gain", rounds=1, budget=120, probabilities=probabilities)
        project.run(rounds=2, annotator="human")
    with serving(work / "demo.a2lc") as address:
        return take_picture(address, target)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a project while the block runs, and yield the address of its page."""
    command = [*A2LC, "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield next(line.split()[1] for line in server.stdout if line.startswith("open "))
        finally:
            server.terminate()


def take_picture(address: str, target: Path) -> Path:
    """Open the page, give a name, and write a picture of the first question."""
    from playwright.sync_api import expect, sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(viewport=VIEWPORT, color_scheme="light").new_page()
        page.goto(address)
        page.get_by_test_id("name-input").fill("Eve")
        page.get_by_test_id("name-save").click()
        expect(page.get_by_test_id("question")).to_be_visible(timeout=20_000)
        expect(page.locator("#stage")).not_to_have_class(re.compile("loading"), timeout=20_000)
        page.wait_for_timeout(2_000)  # the number of automatic corrections comes by itself
        page.screenshot(path=target)
        browser.close()
    return target


def make_curves(name: str, data: Path, work: Path, target: Path) -> Path:
    """Run a benchmark, or what is left of it, and copy its curves."""
    subprocess.run([*A2LC, "bench", name, "--data", str(data), "--out", str(work)], check=True)
    shutil.copyfile(work / "curves.png", target)
    return target


if __name__ == "__main__":
    main()
