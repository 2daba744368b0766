"""A desk in memory over a small real project, to try the server and the page with.

`python tests/unit/serve/fake_desk.py --port 8765` serves it until Ctrl-C and prints the address.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from a2lc.correction.manual import check_answer
from a2lc.creation.importer import create_project
from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import write_scenes
from a2lc.demo.settings import SceneSettings
from a2lc.errors import InputError
from a2lc.formats.base import Sources
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query, QueryKind
from a2lc.rounds.recorder import Outcome
from a2lc.serve.queue import NotNowError, UnknownQuestionError

LEASE_SECONDS = 120.0


class FakeDesk:
    """Rounds of made-up questions; nothing is trained and nothing is written to the ledger."""

    def __init__(
        self, project: Project, *, questions: int = 40, now: Any = time.monotonic, trains: bool = False
    ) -> None:
        self.project = project
        self.trains = trains
        self.lease_seconds = LEASE_SECONDS
        self.round = 1
        self.queries: dict[int, Query] = {}
        self.standing_answers: dict[int, Answer] = {}
        self.said: list[tuple[Query, Answer, str]] = []
        self.leases: dict[int, tuple[str, float]] = {}
        self.accepted: list[int] = []
        self._per_round = self._budget = questions
        self._now = now
        self._phase = "answering"
        self._lock = threading.RLock()
        self._ask()

    def _ask(self) -> None:
        masks, rng = self.project.masks, np.random.default_rng(self.round)
        classes = self.project.classes.num_classes
        large = np.flatnonzero(masks.area >= 20)
        rows = rng.permutation(large)[: self._per_round]
        kinds = [QueryKind.CORRECTION] * 5 + [QueryKind.DOMINANT, QueryKind.CLASSES, QueryKind.PIXEL]
        for place, row in enumerate(rows):
            image = self.project.all_images[int(masks.image[row])]
            mask, kind = int(masks.mask_ids[row]), kinds[place % len(kinds)]
            label = int(masks.label[row])
            likely = [label, *rng.permutation(classes).tolist()] if label >= 0 else rng.permutation(classes).tolist()
            pixel = None
            if kind == QueryKind.PIXEL:
                pixel = int(np.flatnonzero(self.project.mask_map(image).ravel() == mask)[0])
            query = Query(
                query_id=len(self.queries) + 1,
                round=self.round,
                image=image.index,
                mask_ids=(mask,),
                proposed=label if label >= 0 else None,
                suggestions=tuple(dict.fromkeys(likely))[:6],
                score=1.0 - place / len(rows),
                kind=kind,
                pixel=pixel,
            )
            self.queries[query.query_id] = query

    def _open(self) -> list[Query]:
        return [
            query
            for query in self.queries.values()
            if query.round == self.round and query.query_id not in self.standing_answers
        ]

    def _holder(self, query_id: int) -> str | None:
        name, until = self.leases.get(query_id, ("", 0.0))
        return name if until > self._now() else None

    def overview(self) -> dict[str, Any]:
        table = self.project.classes
        return {
            "name": self.project.folder.name.removesuffix(".a2lc"),
            "folder_name": self.project.folder.name,
            "images": len(self.project.images),
            "masks": len(self.project.masks),
            "method": "gain",
            "round": self.round,
            "trains": self.trains,
            "classes": [
                {"index": i, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*colour)}
                for i, (name, colour) in enumerate(zip(table.names, table.colours, strict=True))
            ],
            "version": "0.1.0",
            "annotators": sorted({answer.annotator for _, answer, _ in self.said}),
            "lease_seconds": self.lease_seconds,
        }

    def status(self) -> dict[str, Any]:
        with self._lock:
            answered = sum(self.queries[i].round == self.round for i in self.standing_answers)
            return {
                "round": self.round,
                "stage": "answer" if self._phase == "answering" else "correct",
                "phase": self._phase,
                "message": "",
                "waiting": len(self._open()),
                "answered": answered,
                "budget": float(self._budget),
                "finishing": self._budget < self._per_round,
                "ahead": False,
                "training": None,
                "proposed": len(self._proposals()[0]) if self._phase == "spread" else None,
            }

    def lease(self, annotator: str, count: int, have: Sequence[int] = ()) -> tuple[list[Query], list[int]]:
        with self._lock:
            gone = [i for i in have if i in self.standing_answers or self._holder(i) not in {annotator, None}]
            wanted = [self.queries[i] for i in have if i not in gone and i in self.queries]
            free = [q for q in self._open() if self._holder(q.query_id) in {annotator, None} and q not in wanted]
            given = (wanted + free)[:count]
            for query in given:
                self.leases[query.query_id] = annotator, self._now() + self.lease_seconds
            return given, gone

    def grid(self, annotator: str, count: int) -> tuple[int | None, list[Query]]:
        with self._lock:
            free = [
                q
                for q in self._open()
                if self._holder(q.query_id) in {annotator, None}
                and q.proposed is not None
                and q.kind == QueryKind.CORRECTION
            ]
            if not free:
                return None, []
            named = [q.proposed for q in free]
            most = max(set(named), key=lambda c: (named.count(c), -c))
            given = [q for q in free if q.proposed == most][:count]
            for query in given:
                self.leases[query.query_id] = annotator, self._now() + self.lease_seconds
            return most, given

    def release(self, annotator: str, ids: Sequence[int]) -> int:
        with self._lock:
            own = [i for i in set(ids) if self._holder(i) == annotator]
            for i in own:
                # Asked last from now on.
                del self.leases[i]
                self.queries[i] = self.queries.pop(i)
            return len(own)

    def question(self, query_id: int) -> Query:
        if query_id not in self.queries:
            raise UnknownQuestionError(f"There is no question {query_id}.")
        return self.queries[query_id]

    def standing(self, query_id: int) -> Answer | None:
        return self.standing_answers.get(query_id)

    def answer(self, answers: Sequence[Answer]) -> list[Outcome]:
        with self._lock:
            found = [self._one(answer) for answer in answers]
            if self._phase == "answering" and not self._open():
                self._phase = "spread"
            return found

    def _one(self, answer: Answer) -> Outcome:
        number, before = answer.query_id, self.standing_answers.get(answer.query_id)
        try:
            query = self.question(number)
            check_answer(answer, self.project.classes.num_classes)
            if answer.kind == AnswerKind.CONFIRM and answer.classes != (query.proposed,):
                raise InputError("Another class than the proposed one is a correction.")
        except InputError as error:
            return Outcome(query_id=number, status="refused", message=str(error))
        if before is not None:
            same = (before.kind, before.classes, before.annotator, before.pixels)
            if same == (answer.kind, answer.classes, answer.annotator, answer.pixels):
                return Outcome(query_id=number, status="same", answer_id=before.answer_id)
            if answer.replaces != before.answer_id:
                message = f"{before.annotator} has answered it."
                return Outcome(query_id=number, status="conflict", answer_id=before.answer_id, message=message)
        elif answer.replaces is not None:
            return Outcome(query_id=number, status="conflict", message="There is no answer to replace.")
        made = replace(answer, answer_id=len(self.said) + 1)
        self.said.append((query, made, datetime.now(UTC).isoformat(timespec="seconds")))
        self.standing_answers[number] = made
        self.leases.pop(number, None)
        return Outcome(query_id=number, status="recorded", answer_id=made.answer_id)

    def history(self, annotator: str, limit: int) -> list[tuple[Query, Answer, str]]:
        standing = {answer.answer_id for answer in self.standing_answers.values()}
        own = [row for row in self.said if row[1].annotator == annotator and row[1].answer_id in standing]
        return own[::-1][:limit]

    def _proposals(self) -> tuple[Any, Any, Any, Any]:
        masks = self.project.masks
        rng = np.random.default_rng([7, self.round])
        rows = rng.permutation(np.flatnonzero(masks.label >= 0))[: max(1, len(masks) // 4)]
        probability = np.sort(rng.beta(8, 1.5, len(rows)))[::-1]
        old = masks.label[rows]
        new = (old + rng.integers(1, 4, len(rows))) % self.project.classes.num_classes
        return rows, old, new, probability

    def spread(self) -> dict[str, Any]:
        if self._phase != "spread":
            nothing = np.zeros(0)
            columns = dict.fromkeys(("rows", "old", "new", "probability"), nothing)
            return {"ready": False, "stage": "answer", "total": 0, "promise": ""} | columns
        rows, old, new, probability = self._proposals()
        return {
            "ready": True,
            "stage": "correct",
            "total": len(rows),
            "promise": "at least 9 of 10 changed pixels become right",
            "rows": rows,
            "old": old,
            "new": new,
            "probability": probability,
        }

    def accept_spread(self, threshold: float, rejected: Sequence[tuple[int, int]]) -> dict[str, Any]:
        with self._lock:
            if self._phase != "spread":
                raise NotNowError("The round's questions are not all answered yet.")
            _, old, new, probability = self._proposals()
            kept = probability >= threshold
            for pair in rejected:
                kept &= ~((old == pair[0]) & (new == pair[1]))
            changed = int(kept.sum())
            self.accepted.append(changed)
            self.round += 1
            self._phase = "answering"
            self._ask()
            return {"changed": changed, "left_out": len(kept) - changed, "message": f"{changed} masks changed."}

    def finish_round(self) -> float:
        with self._lock:
            if self._phase != "answering":
                raise NotNowError("All questions are answered.")
            self._budget = self._per_round - 1
            return float(self._budget)

    def undo_spread(self) -> int:
        with self._lock:
            if not self.accepted:
                raise NotNowError("Nothing was accepted that could be taken back.")
            return self.accepted.pop()

    def dashboard(self) -> dict[str, Any]:
        names = sorted({answer.annotator for _, answer, _ in self.said})
        minutes: dict[str, int] = {}
        for _, _, when in self.said:
            minutes[when[:16]] = minutes.get(when[:16], 0) + 1
        counts = np.bincount(
            self.project.masks.label[self.project.masks.label >= 0], minlength=len(self.project.classes.names)
        )
        return {
            "rounds": [
                {
                    "round": n,
                    "queries": self._per_round,
                    "clicks": 51.0,
                    "manual_changed": 9,
                    "automatic_changed": changed,
                    "data_miou": float("nan"),
                    "model_miou": None,
                    "quality": None,
                }
                for n, changed in enumerate(self.accepted, start=1)
            ],
            "annotators": [
                {
                    "name": name,
                    "answers": (n := sum(a.annotator == name for _, a, _ in self.said)),
                    "today": n,
                    "a_minute": None,
                    "changed": sum(a.kind == AnswerKind.CORRECT and a.annotator == name for _, a, _ in self.said),
                }
                for name in names
            ],
            "minutes": [{"time": f"{when}:00+00:00", "answers": n} for when, n in sorted(minutes.items())],
            "changes": [{"class": i, "from": n, "to": n} for i, n in enumerate(counts)],
            "quality": None,
            "clicks": float(len(self.said)),
            "answers": len(self.said),
            "waiting": len(self._open()),
            "data_miou": float("nan"),
        }

    def export(self) -> tuple[str, int]:
        name = f"labels-{len(self.said)}"
        folder = self.project.folder / "exports" / name / "labels"
        folder.mkdir(parents=True, exist_ok=True)
        for image in self.project.images:
            shutil.copyfile(self.project.folder / "labels" / f"{image.image_id}.png", folder / f"{image.image_id}.png")
        (folder.parent / "changes.csv").write_text("image,mask\n", encoding="utf-8")
        return name, len(self.project.images) + 1

    def close(self) -> None:
        self.project.close()


def make_project(root: Path, *, images: int = 12, height: int = 240, width: int = 320) -> Project:
    """A project of made-up scenes below a folder."""
    scenes = root / "scenes"
    write_scenes(scenes, SceneSettings(images=images, validation_images=2, height=height, width=width, seed=3))
    sources = Sources(
        images=scenes / "images",
        labels=scenes / "labels",
        masks=scenes / "masks",
        ground_truth=scenes / "ground_truth",
    )
    create_project(root / "demo.a2lc", sources, scene_classes())
    return Project(root / "demo.a2lc")


def main() -> None:
    from a2lc.serve.app import create_app
    from a2lc.serve.process import Server

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--token", default=secrets.token_urlsafe(16))
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=320)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(chosen.host, chosen.port)
        desk = FakeDesk(
            make_project(Path(folder), height=chosen.height, width=chosen.width), questions=chosen.questions
        )
        try:
            app = create_app(desk, token=chosen.token, hosts=server.hosts)
            address = f"http://{server.address}/?token={chosen.token}"
            server.run(app, ready=lambda: print(address, flush=True))
        finally:
            server.close()
            desk.close()


if __name__ == "__main__":
    main()
