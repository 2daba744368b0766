"""`a2lc serve --train` as it is run: models trained beside the server, questions asked meanwhile, and kills."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from a2lc.project.config import MethodConfig
from a2lc.project.project import Project
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.stages import next_stage

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc"),
]

needs_torch = pytest.mark.skipif(find_spec("lightning") is None, reason="networks need the extra [train]")

MODEL = """
import torch

def build(num_classes):
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 4, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, num_classes, 1))
"""
NETWORK = [
    "preset=tiny",
    "model=small_model:build",
    "resize=32",
    "batch_size=2",
    "iterations=2",
    "warm_iterations=2",
    "validate_every=2",
    "checkpoint_every=2",
]


class Server:
    """`a2lc serve` in a process."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "a2lc", "serve", str(folder), "--port", "0", "--train", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(folder.parent), *sys.path])},
        )
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("open "):
                break
        else:
            raise AssertionError("".join(self.lines))
        self.base, token = line.removeprefix("open ").strip().split("/?token=")
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.base + path, data=data, headers=self.headers)) as reply:
            return json.loads(reply.read())

    def lease(self, count=4, have=(), annotator="eve"):
        return self.ask("/api/lease", {"annotator": annotator, "count": count, "have": list(have)})["cards"]

    def answer(self, cards, annotator="eve"):
        said = [
            {"query_id": c["query_id"], "kind": "correct", "classes": [c["suggestions"][0]], "milliseconds": 300}
            for c in cards
        ]
        return self.ask("/api/answers", {"annotator": annotator, "answers": said})["results"]

    def until(self, true, seconds=120):
        end = time.monotonic() + seconds
        while not (found := true(self.ask("/api/status"))):
            assert time.monotonic() < end, (self.ask("/api/status"), "".join(self.lines))
            threading.Event().wait(0.05)
        return found

    def children(self):
        return [
            int(pid)
            for pid in Path(f"/proc/{self.process.pid}/task").glob("*/children")
            for pid in pid.read_text().split()
        ]

    def stop(self, how=signal.SIGINT):
        self.process.send_signal(how)
        return self.process.wait(timeout=60)


@pytest.fixture
def serve(tiny_project_dir):
    (tiny_project_dir.parent / "small_model.py").write_text(MODEL)
    servers = []

    def start(*options):
        servers.append(Server(tiny_project_dir, *options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture
def trained(tiny_project_dir):
    """The project once the head of round 0 is there: a server asks at once."""
    with Project(tiny_project_dir) as project:
        project.config = project.config.model_copy(update={"method": MethodConfig(name="alc", budget=12)})
        project.config.save(project.folder / "project.yaml")
        Loop(project, RoundPlan.of(project.config)).run(0)


def network(**more):
    """Options for a network, whose training takes a while: no head's does."""
    return [
        word for item in [*NETWORK, *(f"{k}={v}" for k, v in more.items())] for word in ("--set", f"training.{item}")
    ]


@needs_torch
def test_models_are_trained_while_people_answer(serve, tiny_project_dir):
    server = serve("--method", "alc", "--budget", "6", *network())
    server.until(lambda status: status["phase"] == "answering" and status["waiting"])
    first = server.lease(6)
    assert len(first) == 6
    assert all(result["status"] == "recorded" for result in server.answer(first))
    # Round 1 is over: its model is trained in a process of its own, and questions of round 2 are there meanwhile.
    ahead = server.until(lambda status: status["ahead"] and status["training"] and server.lease(2), seconds=40)
    assert {card["round"] for card in ahead} == {2}
    server.answer(ahead)
    server.until(lambda status: status["round"] == 2 and status["stage"] == "answer")
    rest = server.lease(6)
    assert len({card["query_id"] for card in rest} | {card["query_id"] for card in ahead}) == 6, "a round's budget"
    assert server.stop() == 0
    with Project(tiny_project_dir) as project:
        done = {(stage.round, stage.stage) for stage in project.ledger.stages()}
        assert {(0, "train"), (1, "answer"), (1, "train"), (1, "evaluate"), (2, "score"), (2, "select")} <= done
        assert (project.round_folder(1) / "model.ckpt").is_file()
        assert len(project.ledger.answers()) == 6 + len(ahead)


@needs_torch
def test_the_training_ends_with_a_killed_server_and_goes_on_with_the_next(serve, tiny_project_dir):
    server = serve("--method", "alc", "--budget", "6", *network(iterations=100_000))
    server.until(lambda status: status["training"] and "training" in status["training"]["line"])
    (trainer,) = server.children()
    server.stop(signal.SIGKILL)
    end = time.monotonic() + 60
    while Path(f"/proc/{trainer}").exists() and "zombie" not in Path(f"/proc/{trainer}/status").read_text():
        assert time.monotonic() < end, "the training outlives its server"
        threading.Event().wait(0.05)
    server = serve("--method", "alc", "--budget", "6", *network())
    server.until(lambda status: status["phase"] == "answering" and status["waiting"])
    assert server.stop() == 0


def test_a_killed_server_loses_no_answer_and_asks_at_most_the_one_in_flight_again(serve, trained, tiny_project_dir):
    server = serve("--method", "alc", "--budget", "12")
    server.until(lambda status: status["phase"] == "answering" and status["waiting"])
    cards = server.lease(8)
    confirmed = [result["query_id"] for card in cards[:5] for result in server.answer([card])]
    server.stop(signal.SIGKILL)
    server = serve("--method", "alc", "--budget", "12")
    others = {card["query_id"] for card in server.lease(8, annotator="bob")}
    mine = {card["query_id"] for card in server.lease(8)}
    assert not mine & set(confirmed) and not others & set(confirmed)
    assert {card["query_id"] for card in cards[5:]} <= mine, "what was lent is still lent"
    assert not mine & others
    # The page sends again what it never heard of: recorded once.
    assert {result["status"] for result in server.answer(cards[:6])} == {"same", "recorded"}
    assert server.stop() == 0
    with Project(tiny_project_dir) as project:
        answered = [answer.query_id for answer, _ in project.ledger.answers(standing=False)]
        assert sorted(answered) == sorted([*confirmed, cards[5]["query_id"]])


def test_a_training_that_fails_is_told_and_answers_go_on_being_recorded(serve, trained, tiny_project_dir):
    server = serve("--method", "alc", "--budget", "12")
    server.until(lambda status: status["phase"] == "answering" and status["waiting"])
    # Someone moves a file away.
    labels = sorted((tiny_project_dir / "labels").rglob("*.png"))[0]
    labels.rename(labels.with_suffix(".away"))
    server.answer(server.lease(12))
    told = server.until(lambda status: status["training"] and status["training"]["error"])
    assert "is missing" in told and labels.name in told
    assert server.stop() == 0
    labels.with_suffix(".away").rename(labels)
    with Project(tiny_project_dir) as project:
        assert len(project.ledger.answers()) >= 12 and next_stage(project)[0] == 1
