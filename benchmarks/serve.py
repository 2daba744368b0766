"""The server under load: a long queue, one person with fast fingers, twenty at once, and a kill.

python benchmarks/serve.py --folder bench-serve --masks 100000 --annotators 20 --rate 2 --minutes 5 --kills 2

Makes a project of made-up scenes with as many squares for masks, all of them queued in one round (method `alc`, probabilities
from files), and starts `a2lc serve` on it. Then, over HTTP on loopback:

1. one annotator answers 300 cards as fast as the server lets them: answer, next card, its picture, one after the other. The
   page has eight cards ready and waits for none of this;
2. some annotators at a rate each, for minutes, as the page does: eight cards ahead, pictures fetched, answers sent. With
   `--kills`, the server is killed (SIGKILL) in between and begun anew; answers it never confirmed are sent again.

At the end the ledger is read: each answer sent is there once.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from a2lc.creation.importer import create_project
from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import write_scenes
from a2lc.demo.settings import SceneSettings
from a2lc.formats.base import Sources
from a2lc.images.label_maps import write_ids
from a2lc.project.config import AnnotatorConfig, MethodConfig, TrainingConfig
from a2lc.project.project import Project
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan


def make(folder: Path, masks: int, side: int) -> Path:
    """A project whose first round has all its masks queued."""
    project_folder = folder / "bench.a2lc"
    if (project_folder / "ready").is_file():
        return project_folder
    shutil.rmtree(folder, ignore_errors=True)
    height, width = 256, 320
    images = -(-masks // ((height // side) * (width // side)))
    write_scenes(
        folder / "scenes", SceneSettings(images=images, validation_images=0, height=height, width=width, seed=1)
    )
    squares = (np.arange(height) // side)[:, None] * (width // side) + np.arange(width) // side + 1
    for path in sorted((folder / "scenes" / "masks").rglob("*.png")):
        write_ids(path, squares.astype(np.uint16))
    scenes = folder / "scenes"
    sources = Sources(images=scenes / "images", labels=scenes / "labels", masks=scenes / "masks")
    create_project(project_folder, sources, scene_classes())
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(scene_classes().num_classes), (height, width)).transpose(2, 0, 1).astype(np.float16)
    (folder / "probs").mkdir()
    with Project(project_folder) as project, project.lock():
        for image in project.images:
            path = folder / "probs" / f"{image.image_id}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            if image.index == 0:
                first = path
                np.save(path, probs)
            else:
                os.link(first, path)
        project.config = project.config.model_copy(
            update={
                "method": MethodConfig(name="alc", budget=len(project.masks)),
                "training": TrainingConfig(model="probabilities", probabilities=str(folder / "probs")),
                "annotator": AnnotatorConfig(kind="human"),
            }
        )
        project.config.save(project_folder / "project.yaml")
        loop = Loop(project, RoundPlan.of(project.config), on_stage=lambda result: print(*result.lines(), sep="\n"))
        for stage in ("train", "evaluate", "score", "select"):
            loop.run_stage(stage)
    (project_folder / "ready").touch()
    return project_folder


class Served:
    """`a2lc serve` in a process, begun, killed, begun again."""

    def __init__(self, folder: Path, port: int):
        self.folder, self.port, self.process = folder, port, None

    def start(self):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "a2lc", "serve", str(self.folder), "--port", str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for line in self.process.stdout:
            if line.startswith("open "):
                break
        self.token = line.rsplit("token=", 1)[1].strip()
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def megabytes(self, what="VmRSS"):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        return float("nan")


class Client:
    """One annotator's connection."""

    def __init__(self, served: Served):
        self.served, self.connection = served, None

    def ask(self, method, path, body=None):
        """Status and bytes; raises OSError while the server is away."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=30)
        headers = {"Authorization": f"Bearer {self.served.token}"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body), "application/json"
        try:
            self.connection.request(method, path, data, headers)
            response = self.connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.connection = None
            raise OSError(str(error)) from None

    def json(self, method, path, body=None):
        status, data = self.ask(method, path, body)
        if status != 200:
            raise SystemExit(f"{method} {path}: {status} {data[:200]!r}")
        return json.loads(data)

    def picture(self, card):
        x0, y0, x1, y1 = card["crop"]
        status, _ = self.ask("GET", f"/api/images/{card['image']}/crop.jpg?x0={x0}&y0={y0}&x1={x1}&y1={y1}&size=1024")
        assert status == 200, status


def answer_to(card, name):
    return {
        "query_id": card["query_id"],
        "kind": "correct",
        "classes": [(card["query_id"] + len(name)) % 11],
        "milliseconds": 400,
        "replaces": None,
        "parts": None,
    }


def percentiles(name, values):
    values = np.array(values) * 1000
    cells = ", ".join(f"p{p} {np.percentile(values, p):.1f}" for p in (50, 95, 99))
    print(f"{name}: {cells}, worst {values.max():.1f} ms ({len(values)} requests)", flush=True)


def alone(served, count):
    client, whole, parts = Client(served), [], {"answer": [], "card": [], "picture": []}
    card = client.json("POST", "/api/lease", {"annotator": "fast", "count": 1, "have": []})["cards"][0]
    sent = {}
    for _ in range(count):
        times = [time.perf_counter()]
        said = answer_to(card, "fast")
        (result,) = client.json("POST", "/api/answers", {"annotator": "fast", "answers": [said]})["results"]
        assert result["status"] == "recorded", result
        sent[card["query_id"]] = said["classes"][0]
        times.append(time.perf_counter())
        card = client.json("POST", "/api/lease", {"annotator": "fast", "count": 1, "have": []})["cards"][0]
        times.append(time.perf_counter())
        client.picture(card)
        times.append(time.perf_counter())
        whole.append(times[-1] - times[0])
        for name, begun, ended in zip(parts, times, times[1:], strict=False):
            parts[name].append(ended - begun)
    percentiles("one annotator, answer to next card with its picture", whole)
    for name, values in parts.items():
        percentiles(f"  {name}", values)
    return sent


class Person(threading.Thread):
    """Answers at a rate, as the page does."""

    def __init__(self, served, name, rate, end):
        super().__init__()
        self.served, self.client, self.person, self.rate, self.end = served, Client(served), name, rate, end
        self.sent, self.times, self.away, self.broken = {}, [], 0, None

    def run(self):
        try:
            self.work()
        except BaseException as error:
            self.broken = error

    def work(self):
        rng = random.Random(self.person)
        hand, box = [], []
        due = time.monotonic() + rng.random()
        while time.monotonic() < self.end or box:
            try:
                if len(hand) < 4 and time.monotonic() < self.end:
                    have = [card["query_id"] for card in hand]
                    found = self.timed(
                        "POST", "/api/lease", {"annotator": self.person, "count": 8 - len(hand), "have": have}
                    )
                    hand = [card for card in hand if card["query_id"] not in found["gone"]]
                    for card in found["cards"]:
                        self.client.picture(card)
                        # One that was answered and not heard of must not be asked of this person again.
                        if card["query_id"] not in self.sent:
                            hand.append(card)
                if box:
                    found = self.timed("POST", "/api/answers", {"annotator": self.person, "answers": box[:64]})
                    for result in found["results"]:
                        assert result["status"] in {"recorded", "same"}, result
                    box = box[64:]
            except OSError:
                self.away += 1
                threading.Event().wait(0.5)
            pause = due - time.monotonic()
            if pause > 0:
                threading.Event().wait(pause)
            if hand and time.monotonic() < self.end:
                due += 1 / self.rate
                card = hand.pop(0)
                said = answer_to(card, self.person)
                assert card["query_id"] not in self.sent
                self.sent[card["query_id"]] = said["classes"][0]
                box.append(said)

    def timed(self, *what):
        began = time.perf_counter()
        found = self.client.json(*what)
        self.times.append(time.perf_counter() - began)
        return found


def together(served, args):
    end = time.monotonic() + 60 * args.minutes
    people = [Person(served, f"person {i}", args.rate, end) for i in range(args.annotators)]
    for person in people:
        person.start()
    for kill in range(args.kills):
        threading.Event().wait(60 * args.minutes / (args.kills + 1))
        served.kill()
        print(f"killed {kill + 1}", flush=True)
        served.start()
    most = 0.0
    for person in people:
        while person.is_alive():
            person.join(timeout=2)
            most = max(most, served.megabytes())
    for person in people:
        if person.broken is not None:
            raise person.broken
    percentiles(
        f"{args.annotators} annotators, {args.rate:g} answers a second each", [t for p in people for t in p.times]
    )
    print(f"resident {most:.0f} MiB at most; requests that found no server: {sum(p.away for p in people)}")
    sent: dict[int, int] = {}
    for person in people:
        assert not sent.keys() & person.sent.keys(), "one question, two annotators"
        sent |= person.sent
    return sent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="where to make the project, or where it was made")
    parser.add_argument("--masks", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=16, help="of the squares")
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--rate", type=float, default=2.0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--port", type=int, default=8790)
    args = parser.parse_args()
    folder = make(args.folder, args.masks, args.side)
    with Project(folder) as project:
        before = len(project.ledger.answers())
        print(f"{len(project.ledger.queries()):,} questions queued, {before:,} answered before")
    served = Served(folder, args.port)
    began = time.perf_counter()
    served.start()
    print(f"serves after {time.perf_counter() - began:.1f} s, resident {served.megabytes():.0f} MiB", flush=True)
    sent = alone(served, 300)
    print(f"resident {served.megabytes():.0f} MiB, at most {served.megabytes('VmHWM'):.0f}")
    sent |= together(served, args)
    served.process.send_signal(signal.SIGINT)
    served.process.wait()
    with Project(folder) as project:
        recorded = project.ledger.answers(standing=False)[before:]
    counts = Counter(answer.query_id for answer, _ in recorded)
    lost = [q for q, c in sent.items() if counts[q] == 0]
    wrong = [a.query_id for a, _ in recorded if sent.get(a.query_id) != a.classes[0]]
    print(
        f"{len(sent):,} answers sent, {len(recorded):,} recorded: {len(lost)} lost, "
        f"{sum(c > 1 for c in counts.values())} doubled, {len(wrong)} unlike what was sent"
    )


if __name__ == "__main__":
    main()
