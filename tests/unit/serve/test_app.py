"""The endpoints over a desk in memory: what they give, and what they make of odd and hostile requests."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import uvicorn
from numpy.testing import assert_array_equal
from PIL import Image
from starlette.testclient import TestClient

from a2lc.errors import AlreadyAnsweredError, InputError, LedgerError, LockedError, PoolExhaustedError, StageError
from a2lc.ledger import KEEP, VOID
from a2lc.records import Answer, AnswerKind, QueryKind
from a2lc.serve import process, schemas
from a2lc.serve.app import create_app
from a2lc.serve.process import Server
from a2lc.serve.routes import page
from a2lc.serve.routes.questions import changes_class
from a2lc.serve.security import SECURITY_HEADERS

from .fake_desk import FakeDesk, make_project

TOKEN = "s3cret_Token-1"
HOST = "127.0.0.1:8765"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with make_project(tmp_path_factory.mktemp("serve"), images=4, height=90, width=120) as opened:
        yield opened


@pytest.fixture
def desk(project):
    return FakeDesk(project, questions=16)


def client_of(desk):
    app = create_app(desk, token=TOKEN, hosts=[HOST])
    return TestClient(app, base_url=f"http://{HOST}", follow_redirects=False, headers=BEARER)


class Swapped:
    """A desk in whose place another can be put: making an application takes longer than most tests."""

    def __init__(self, desk):
        self.desk = desk

    def __getattr__(self, name):
        return getattr(self.desk, name)


@pytest.fixture(scope="module")
def swapped(project):
    swapped = Swapped(FakeDesk(project, questions=16))
    return swapped, create_app(swapped, token=TOKEN, hosts=[HOST])


@pytest.fixture
def client(desk, swapped):
    held, app = swapped
    held.desk = desk
    return TestClient(app, base_url=f"http://{HOST}", follow_redirects=False, headers=BEARER)


def good(reply, model=None):
    """The JSON of a reply, which fits what the OpenAPI document says of it."""
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json" and reply.headers["cache-control"] == "no-store"
    dressed(reply)
    assert "<" not in reply.text and "NaN" not in reply.text and "Infinity" not in reply.text
    if model is not None:
        model.model_validate_json(reply.content)
    return reply.json()


def refused(reply, status, code, says=""):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    dressed(reply)
    body = reply.json()
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message"}
    assert body["error"]["code"] == code and says in body["error"]["message"]
    assert 0 < len(body["error"]["message"]) < 600 and "\n" not in body["error"]["message"]
    return body["error"]["message"]


def dressed(reply):
    for name, value in SECURITY_HEADERS.items():
        assert reply.headers[name] == value, name


def lease(client, count=4, annotator="Eve", **other):
    return good(client.post("/api/lease", json={"annotator": annotator, "count": count} | other), schemas.LeasedReply)


def send(client, *answers, annotator="Eve"):
    body = {"annotator": annotator, "answers": list(answers)}
    return good(client.post("/api/answers", json=body), schemas.ResultsReply)


def of_kind(desk, kind):
    return next(query for query in desk.queries.values() if query.kind == kind)


def finish(client, desk):
    """Answer every question of the round."""
    for start in range(0, len(desk.queries), 50):
        queries = list(desk.queries.values())[start : start + 50]
        send(client, *({"query_id": query.query_id, "kind": "void"} for query in queries))


# ---- reading --------------------------------------------------------------------------------------------------------


def test_project_status_and_health(client, desk):
    told = good(client.get("/api/project"), schemas.OverviewReply)
    assert told["classes"][0] == {
        "index": 0,
        "name": desk.project.classes.names[0],
        "color": told["classes"][0]["color"],
    }
    assert good(client.get("/api/status"), schemas.StatusBody)["waiting"] == 16
    assert good(client.get("/api/health"), schemas.HealthReply) == {"ok": True}


def test_a_lease_gives_cards(client, desk):
    found = lease(client, 16)
    assert len(found["cards"]) == 16 and found["gone"] == [] and found["status"]["phase"] == "answering"
    for card in found["cards"]:
        query = desk.question(card["query_id"])
        image = desk.project.images[card["image"]]
        inside = np.isin(desk.project.mask_map(image), query.mask_ids)
        x0, y0, x1, y1 = card["crop"]
        values = np.arange(len(card["runs"])) % 2 == 1
        shown = np.repeat(values, card["runs"]).reshape(y1 - y0, x1 - x0)
        assert_array_equal(shown, inside[y0:y1, x0:x1])
        assert card["area"] == inside.sum() and (card["width"], card["height"]) == (image.width, image.height)
        assert card["image_id"] == image.image_id and card["kind"] == query.kind and card["answer"] is None
        assert card["suggestions"] == list(query.suggestions) and card["proposed"] == query.proposed
        if query.kind == QueryKind.PIXEL:
            x, y = card["pixel"]
            assert inside[y, x] and query.pixel == y * image.width + x
        else:
            assert card["pixel"] is None
    assert {"pixel", "correction", "classes", "dominant"} == {card["kind"] for card in found["cards"]}


def test_at_most_nine_suggestions(client, desk):
    desk.queries[1] = replace(desk.queries[1], suggestions=tuple(range(10)))
    assert good(client.get("/api/questions/1"))["suggestions"] == list(range(9))


def test_questions_go_to_one_person_and_come_back(client):
    eves = [card["query_id"] for card in lease(client, 16)["cards"]]
    bobs = lease(client, 16, "Bob", have=eves[:2])
    assert bobs["cards"] == [] and bobs["gone"] == eves[:2]
    assert good(client.post("/api/release", json={"annotator": "Eve", "ids": eves[:3]}), schemas.ReleasedReply) == {
        "released": 3
    }
    assert good(client.post("/api/release", json={"annotator": "Bob", "ids": eves[5:]})) == {"released": 0}
    assert {card["query_id"] for card in lease(client, 16, "Bob")["cards"]} == set(eves[:3])


def test_a_grid_is_of_one_class(client, desk):
    found = good(client.post("/api/grid", json={"annotator": "Eve", "count": 48}), schemas.GridReply)
    assert found["cards"] and {card["proposed"] for card in found["cards"]} == {found["proposed"]}
    finish(client, desk)
    assert good(client.post("/api/grid", json={"annotator": "Eve", "count": 4})) == {"proposed": None, "cards": []}


def test_a_question_with_its_answer(client):
    assert good(client.get("/api/questions/1"), schemas.CardBody)["answer"] is None
    send(client, {"query_id": 1, "kind": "correct", "classes": [2], "milliseconds": 900})
    assert good(client.get("/api/questions/1"), schemas.CardBody)["answer"] == {
        "answer_id": 1, "kind": "correct", "classes": [2], "annotator": "Eve", "milliseconds": 900,
    }  # fmt: skip
    refused(client.get("/api/questions/999"), 404, "no_such_question", "999")
    refused(
        client.get("/api/questions/-1"), 422, "bad_request", "query_id: expected greater than or equal to 0, found '-1'"
    )
    refused(client.get("/api/questions/abc"), 422, "bad_request", "valid integer")
    refused(client.get(f"/api/questions/{'9' * 5000}"), 422, "bad_request")


# ---- answers --------------------------------------------------------------------------------------------------------


def test_answers_are_recorded_once(client, desk):
    proposed = desk.queries[1].proposed
    said = {"query_id": 1, "kind": "confirm", "classes": [proposed], "milliseconds": 1200}
    first = send(client, said, {"query_id": 2, "kind": "skip"})
    assert [(r["query_id"], r["status"], r["answer_id"]) for r in first["results"]] == [
        (1, "recorded", 1),
        (2, "recorded", 2),
    ]
    assert first["status"]["answered"] == 2
    again = send(client, said)["results"]
    assert [(r["status"], r["answer_id"]) for r in again] == [("same", 1)] and len(desk.said) == 2
    assert desk.standing(1).annotator == "Eve" and desk.standing(1).kind is AnswerKind.CONFIRM
    assert desk.standing(1).classes == (proposed,) and desk.standing(1).milliseconds == 1200


def test_another_answer_must_name_the_one_it_replaces(client, desk):
    send(client, {"query_id": 1, "kind": "void"})
    other = {"query_id": 1, "kind": "correct", "classes": [3]}
    (result,) = send(client, other, annotator="Bob")["results"]
    assert result["status"] == "conflict" and result["message"] and len(desk.said) == 1
    assert send(client, other | {"replaces": 1})["results"][0]["status"] == "recorded"
    assert send(client, other | {"kind": "void", "classes": [], "replaces": 1})["results"][0]["status"] == "conflict"


def test_one_bad_answer_does_not_spoil_the_others(client, desk):
    results = send(
        client,
        {"query_id": 999, "kind": "void"},
        {"query_id": 1, "kind": "correct", "classes": [4711]},
        {"query_id": 2, "kind": "correct", "classes": [-7]},
        {"query_id": 3, "kind": "correct", "classes": []},
        {"query_id": 4, "kind": "correct", "classes": [1], "parts": {"method": "clicks", "points": [[0, 0, 1]]}},
        {"query_id": 999, "kind": "classes", "classes": [1], "parts": {"method": "clicks", "points": [[0, 0, 1]]}},
        {"query_id": 5, "kind": "void"},
    )["results"]
    assert [r["query_id"] for r in results] == [999, 1, 2, 3, 4, 999, 5]
    assert [r["status"] for r in results] == ["refused"] * 6 + ["recorded"]
    assert "no question 999" in results[0]["message"] and "Class 4711" in results[1]["message"]
    assert "Only an answer 'classes' has parts" in results[4]["message"] and list(desk.standing_answers) == [5]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "maybe"}, "answers.0.kind: expected 'confirm', 'correct'"),
        ({"kind": None}, "answers.0.kind"),
        ({"query_id": -1}, "answers.0.query_id: expected greater than or equal to 0, found -1"),
        ({"query_id": 10**30}, "answers.0.query_id"),
        ({"query_id": "1"}, "answers.0.query_id: expected a valid integer, found '1'"),
        ({"query_id": True}, "answers.0.query_id: expected a valid integer, found True"),
        ({"query_id": 1.5}, "answers.0.query_id"),
        ({"milliseconds": -1}, "answers.0.milliseconds"),
        ({"milliseconds": 10**30}, "answers.0.milliseconds"),
        ({"classes": [10**30]}, "answers.0.classes.0"),
        ({"classes": "1"}, "answers.0.classes"),
        ({"classes": [1] * 1001}, "answers.0.classes"),
        ({"annotator": "Bob"}, "answers.0.annotator: there is no such field"),
        ({"answer_id": 7}, "answers.0.answer_id: there is no such field"),
        ({"parts": {"method": "magic"}}, "answers.0.parts"),
        (
            {"parts": {"method": "superpixels", "count": 5}},
            "answers.0.parts.superpixels.classes: expected a value, found none",
        ),
        ({"parts": {"method": "superpixels", "count": 61, "classes": [1]}}, "count"),
        ({"parts": {"method": "superpixels", "count": 5, "classes": [-2]}}, "classes.0"),
        ({"parts": {"method": "clicks", "points": []}}, "points"),
        ({"parts": {"method": "clicks", "points": [[1, 2]]}}, "points.0"),
        ({"parts": {"method": "clicks", "points": [[1, 2, -1]]}}, "points.0.2"),
        ({"parts": {"method": "clicks", "points": [[1, 2, 3]], "extra": 1}}, "there is no such field"),
    ],
)
def test_answers_of_another_form_are_refused(client, desk, change, says):
    said = {"query_id": 1, "kind": "void"} | change
    refused(client.post("/api/answers", json={"annotator": "Eve", "answers": [said]}), 422, "bad_request", says)
    assert not desk.said


@pytest.mark.parametrize("answers", [[], [{"query_id": 1, "kind": "void"}] * 65])
def test_numbers_of_answers(client, answers):
    refused(client.post("/api/answers", json={"annotator": "Eve", "answers": answers}), 422, "bad_request", "answers")


def test_history_is_newest_first(client, desk):
    proposed = desk.queries[1].proposed
    send(client, {"query_id": 1, "kind": "confirm", "classes": [proposed]}, {"query_id": 2, "kind": "mixed"})
    send(client, {"query_id": 3, "kind": "void"}, annotator="Bob")
    entries = good(client.get("/api/history", params={"annotator": "Eve"}), schemas.HistoryReply)["entries"]
    assert [(e["query_id"], e["kind"], e["changed"]) for e in entries] == [(2, "mixed", True), (1, "confirm", False)]
    assert entries[1]["classes"] == [proposed] and entries[1]["image_id"].startswith("scene_")
    assert len(good(client.get("/api/history", params={"annotator": "Eve", "limit": 1}))["entries"]) == 1
    refused(client.get("/api/history"), 422, "bad_request", "annotator: expected a value, found none")
    refused(client.get("/api/history?annotator=Eve&limit=0"), 422, "bad_request", "limit")
    refused(client.get("/api/history?annotator=oracle"), 422, "bad_annotator")


@pytest.mark.parametrize(
    ("kind", "classes", "proposed", "changed"),
    [
        ("confirm", (1,), 1, False),
        ("correct", (2,), 1, True),
        ("correct", (1,), 1, False),
        ("classes", (1,), 1, False),
        ("classes", (1, 2), 1, True),
        ("void", (), 1, True),
        ("void", (), None, False),
        ("mixed", (), 1, True),
        ("skip", (), 1, False),
    ],
)
def test_what_counts_as_a_change(desk, kind, classes, proposed, changed):
    query = replace(desk.queries[1], proposed=proposed)
    answer = Answer(query_id=1, annotator="Eve", kind=AnswerKind(kind), classes=classes)
    assert changes_class(query, answer) is changed


# ---- people ---------------------------------------------------------------------------------------------------------

POSTS = {
    "/api/lease": {"count": 2},
    "/api/release": {"ids": [1]},
    "/api/grid": {"count": 2},
    "/api/answers": {"answers": [{"query_id": 1, "kind": "void"}]},
    "/api/spread/accept": {"threshold": 0.5, "rejected": []},
    "/api/round/finish": {},
    "/api/spread/undo": {},
    "/api/export": {},
}


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "x" * 61,
        "a\nb",
        "a\x00b",
        "a\u202eb",
        "\u200d",
        "\ud800",
        "oracle",
        " Oracle ",
        "ＯＲＡＣＬＥ",
        "ora\u200dcle",
    ],
)
def test_names_that_are_no_names(client, desk, path, name):
    body = json.dumps(POSTS[path] | {"annotator": name})
    reply = client.post(path, content=body, headers={"content-type": "application/json"})
    refused(reply, 422, "bad_annotator")
    assert not desk.said and not desk.leases and not desk.accepted


@pytest.mark.parametrize("path", POSTS)
def test_a_name_must_come_and_nothing_else(client, path):
    refused(client.post(path, json=POSTS[path]), 422, "bad_request", "annotator: expected a value, found none")
    refused(
        client.post(path, json=POSTS[path] | {"annotator": 7}), 422, "bad_request", "expected a valid string, found 7"
    )
    extra = POSTS[path] | {"annotator": "Eve", "admin": True}
    refused(client.post(path, json=extra), 422, "bad_request", "admin: there is no such field")


def test_a_name_is_kept_as_it_is_meant(client, desk):
    send(client, {"query_id": 1, "kind": "void"}, annotator="  Jose\u0301 ")
    assert desk.standing(1).annotator == "José"
    send(client, {"query_id": 2, "kind": "void"}, annotator="x" * 60)


def test_scripts_in_names_stay_words(project, desk, client, monkeypatch):
    names = (SCRIPT, *project.classes.names[1:])
    monkeypatch.setattr(project, "classes", replace(project.classes, names=names))
    send(client, {"query_id": 1, "kind": "void"}, annotator=SCRIPT)
    told = good(client.get("/api/project"))  # which looks for '<' in the text
    assert told["classes"][0]["name"] == SCRIPT and told["annotators"] == [SCRIPT]
    assert good(client.get("/api/questions/1"))["answer"]["annotator"] == SCRIPT
    for path in ("/", "/api/docs", "/api/openapi.json"):
        assert SCRIPT not in client.get(path).text
    assert SCRIPT not in client.get("/", headers={"authorization": ""}).text
    reply = client.get(f"/{SCRIPT}")
    assert "<" not in reply.text and SCRIPT in refused(reply, 404, "not_found")


# ---- pictures -------------------------------------------------------------------------------------------------------


def test_pictures(client, project):
    reply = client.get("/api/images/0/crop.jpg?x0=10&y0=5&x1=110&y1=85&size=64")
    assert reply.status_code == 200 and reply.headers["content-type"] == "image/jpeg"
    dressed(reply)
    assert reply.headers["cache-control"] == "private, max-age=3600" and "Cookie" in reply.headers["vary"]
    assert "content-encoding" not in reply.headers
    assert Image.open(io.BytesIO(reply.content)).size == (64, 51)
    whole = client.get("/api/images/1/whole.jpg")
    assert Image.open(io.BytesIO(whole.content)).size == (120, 90)
    assert (
        abs(np.asarray(Image.open(io.BytesIO(whole.content))).astype(int) - project.pixels(project.images[1])).mean()
        < 8
    )


@pytest.mark.parametrize(
    "region", ["0,0,121,90", "0,0,120,91", "-1,0,9,9", "0,-1,9,9", "9,9,9,19", "20,0,10,9", f"0,0,{2**53 - 1},9"]
)
def test_regions_outside(client, region):
    edges = "&".join(f"{name}={value}" for name, value in zip(("x0", "y0", "x1", "y1"), region.split(","), strict=True))
    refused(client.get(f"/api/images/0/crop.jpg?{edges}"), 422, "bad_region", "image 0, which is 120 x 90 pixels")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("99/whole.jpg", 404, "no_such_image"),
        (f"{2**53 - 1}/whole.jpg", 404, "no_such_image"),
        ("99/crop.jpg?x0=0&y0=0&x1=9&y1=9", 404, "no_such_image"),
        ("-1/whole.jpg", 422, "bad_request"),
        (f"{2**64}/whole.jpg", 422, "bad_request"),
        ("scene_00000/whole.jpg", 422, "bad_request"),
        ("0/whole.jpg?size=63", 422, "bad_request"),
        ("0/whole.jpg?size=2049", 422, "bad_request"),
        ("0/whole.jpg?size=big", 422, "bad_request"),
        ("0/crop.jpg", 422, "bad_request"),
        ("0/crop.jpg?x0=0&y0=0&x1=9", 422, "bad_request"),
        (f"0/crop.jpg?x0=0&y0=0&x1=9&y1={'9' * 4000}", 422, "bad_request"),
        ("0/crop.jpg?x0=1e1&y0=0&x1=9&y1=9", 422, "bad_request"),
        ("../../project.yaml", 404, "not_found"),
        ("..%2f..%2fproject.yaml/whole.jpg", 404, "not_found"),
        ("0/original.png", 404, "not_found"),
    ],
)
def test_pictures_that_are_not_there(client, path, status, code):
    refused(client.get(f"/api/images/{path}"), status, code)


def test_a_lost_image_leaves_its_cards(client, desk, project):
    card = good(client.get("/api/questions/1"))
    path = project.image_path(project.images[card["image"]])
    kept = path.read_bytes()
    path.unlink()
    try:
        fresh = client_of(desk)
        refused(fresh.get(f"/api/images/{card['image']}/whole.jpg"), 404, "no_image_file", "is missing")
        assert good(fresh.get("/api/questions/1")) == card
        parts = {"method": "superpixels", "count": 4}
        refused(fresh.post("/api/questions/1/parts", json=parts), 404, "no_image_file", "is missing")
        said = {"query_id": 1, "kind": "classes", "classes": [1], "parts": parts | {"classes": [1] * 4}}
        (result,) = send(fresh, said)["results"]
        assert result["status"] == "refused" and "is missing" in result["message"]
    finally:
        path.write_bytes(kept)
    assert client.get(f"/api/images/{card['image']}/whole.jpg").status_code == 200


def test_many_at_once(client):
    paths = [f"/api/images/{i % 4}/crop.jpg?x0={i % 9}&y0={i % 7}&x1=100&y1=80&size=64" for i in range(64)]
    alone = [client.get(path).content for path in paths]
    app = client.app
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(
            lambda path: TestClient(app, base_url=f"http://{HOST}", headers=BEARER).get(path).content, paths
        )
        assert list(found) == alone


# ---- parts ----------------------------------------------------------------------------------------------------------


def part_map(found):
    x0, y0, x1, y1 = found["crop"]
    return np.repeat(found["ids"][::2], found["ids"][1::2]).reshape(y1 - y0, x1 - x0)


def inside_of(desk, query):
    return np.isin(desk.project.mask_map(desk.project.images[query.image]), query.mask_ids)


def test_superpixels_are_named_and_recorded(client, desk):
    query = max(desk.queries.values(), key=lambda q: inside_of(desk, q).sum())
    wanted = {"method": "superpixels", "count": 6}
    found = good(client.post(f"/api/questions/{query.query_id}/parts", json=wanted), schemas.PartMapReply)
    parts, inside = part_map(found), inside_of(desk, query)
    x0, y0, x1, y1 = found["crop"]
    assert found["crop"] == good(client.get(f"/api/questions/{query.query_id}"))["crop"]
    assert_array_equal(parts > 0, inside[y0:y1, x0:x1])
    assert found["parts"] == parts.max() >= 3
    classes = [2, VOID, None, *[5] * (found["parts"] - 3)]
    said = {"query_id": query.query_id, "kind": "classes", "classes": [2, 5][: 1 + (found["parts"] > 3)]}
    assert send(client, said | {"parts": wanted | {"classes": classes}})["results"][0]["status"] == "recorded"
    drawn = desk.project.answered_pixels(desk.standing(query.query_id).pixels)
    expected = np.full(inside.shape, KEEP)
    expected[y0:y1, x0:x1] = np.array([KEEP, 2, VOID, KEEP, *[5] * (found["parts"] - 3)])[parts]
    assert_array_equal(drawn, expected)
    again = send(client, said | {"parts": wanted | {"classes": classes}})["results"][0]
    assert again["status"] == "same"


def test_clicks_are_recorded(client, desk):
    query = of_kind(desk, QueryKind.CLASSES)
    ys, xs = np.nonzero(inside_of(desk, query))
    points = [[int(xs[0]), int(ys[0]), 3], [int(xs[-1]), int(ys[-1]), 1]]
    wanted = {"method": "clicks", "points": points}
    found = good(client.post(f"/api/questions/{query.query_id}/parts", json=wanted), schemas.PartMapReply)
    parts = part_map(found)
    assert found["parts"] == 2 and set(np.unique(parts)) <= {0, 2, 4}
    said = {"query_id": query.query_id, "kind": "classes", "classes": [1, 3], "parts": wanted}
    assert send(client, said)["results"][0]["status"] == "recorded"
    drawn = desk.project.answered_pixels(desk.standing(query.query_id).pixels)
    assert drawn[ys[0], xs[0]] == 3 and drawn[ys[-1], xs[-1]] == 1
    x0, y0, x1, y1 = found["crop"]
    assert_array_equal(drawn[y0:y1, x0:x1], np.where(parts == 0, KEEP, parts - 1))
    assert np.count_nonzero(drawn != KEEP) == len(ys)


@pytest.mark.parametrize(
    ("classes", "parts", "says"),
    [
        ([1], [2], "names classes [1], but its parts have [2]"),
        ([2, 1], [1, 2], "names classes [2, 1], but its parts have [1, 2]"),
        ([99], [99], "Class 99 of a part is not one of the"),
        ([], [VOID], "No part has a class"),
        ([], [None], "No part has a class"),
    ],
)
def test_parts_that_do_not_fit_the_answer(client, desk, classes, parts, says):
    query = desk.queries[1]
    wanted = {"method": "superpixels", "count": 4}
    count = good(client.post("/api/questions/1/parts", json=wanted))["parts"]
    named = [parts[i % len(parts)] for i in range(count)]
    said = {"query_id": 1, "kind": "classes", "classes": classes, "parts": wanted | {"classes": named}}
    (result,) = send(client, said)["results"]
    assert result["status"] == "refused" and says in result["message"]
    (result,) = send(client, said | {"parts": wanted | {"classes": [*named, 1]}})["results"]
    assert result["status"] == "refused" and f"has {count} parts" in result["message"]
    assert query.query_id not in desk.standing_answers


def test_clicks_that_do_not_fit(client, desk):
    query, path = desk.queries[1], "/api/questions/1/parts"
    inside = inside_of(desk, query)
    (ys, xs), (out_y, out_x) = np.nonzero(inside), np.argwhere(~inside)[0]
    far = {"method": "clicks", "points": [[10**6, 10**6, 0]]}
    refused(client.post(path, json=far), 422, "bad_input", "Point 1000000, 1000000 lies outside the mask")
    outside = {"method": "clicks", "points": [[int(out_x), int(out_y), 0]]}
    refused(client.post(path, json=outside), 422, "bad_input", "lies outside the mask")
    unknown = {"method": "clicks", "points": [[int(xs[0]), int(ys[0]), 99]]}
    refused(client.post(path, json=unknown), 422, "bad_input", "has class 99")


@pytest.mark.parametrize(
    "body", [{}, {"method": "superpixels"}, {"method": "superpixels", "count": 1}, {"method": "superpixels", "count": 61},
             {"method": "clicks", "points": [[0, 0, 0]] * 501}, {"method": "superpixels", "count": 4, "classes": [1]}, [], 7],
)  # fmt: skip
def test_parts_of_another_form(client, body):
    refused(client.post("/api/questions/1/parts", json=body), 422, "bad_request")
    refused(
        client.post("/api/questions/999/parts", json={"method": "superpixels", "count": 4}), 404, "no_such_question"
    )


# ---- the spread -----------------------------------------------------------------------------------------------------


def test_nothing_is_spread_before_the_answers_are_in(client):
    found = good(client.get("/api/spread"), schemas.SpreadReply)
    assert not found["ready"] and found["items"] == found["pairs"] == [] and found["histogram"] == [0] * 20
    body = {"annotator": "Eve", "threshold": 0.5, "rejected": []}
    refused(client.post("/api/spread/accept", json=body), 409, "not_now", "not all answered")
    refused(client.post("/api/spread/undo", json={"annotator": "Eve"}), 409, "not_now")


def test_proposed_changes_evenly_over_pairs(client, desk):
    finish(client, desk)
    found = good(client.get("/api/spread"), schemas.SpreadReply)
    rows, old, new, probability = desk._proposals()
    pairs = {}
    for row, a, b, p in zip(rows, old, new, probability, strict=True):
        pairs.setdefault((int(a), int(b)), []).append((p, int(row)))
    area = desk.project.masks.area
    assert [(p["old"], p["new"]) for p in found["pairs"]] == sorted(pairs, key=lambda pair: (-len(pairs[pair]), pair))
    for pair in found["pairs"]:
        own = pairs[pair["old"], pair["new"]]
        assert (pair["masks"], pair["pixels"]) == (len(own), sum(area[row] for _, row in own))
    assert found["ready"] and found["total"] == len(rows)
    assert sum(found["histogram"]) == len(rows) and found["histogram"][19] == (probability >= 0.95).sum()
    assert len(found["items"]) == min(60, len(rows))
    for item in found["items"]:
        assert desk.project.masks.label[item["row"]] == item["old"] and sum(item["runs"]) > 0
        assert item["mask_id"] == desk.project.masks.mask_ids[item["row"]]
        assert item["image"] == desk.project.masks.image[item["row"]]
    few = good(client.get("/api/spread", params={"limit": len(pairs)}))["items"]
    assert {(item["old"], item["new"]) for item in few} == set(pairs), "one of each pair, before a second of any"
    for item in few:
        assert item["probability"] == max(pairs[item["old"], item["new"]])[0], "the surest of it"
    every, offset = [], 0
    while page := good(client.get("/api/spread", params={"limit": 7, "offset": offset}))["items"]:
        every += [item["row"] for item in page]
        offset += 7
    assert sorted(every) == sorted(rows.tolist())


def test_more_of_one_pair(client, desk):
    finish(client, desk)
    pair = good(client.get("/api/spread"))["pairs"][0]
    query = {"old": pair["old"], "new": pair["new"]}
    every = good(client.get("/api/spread", params=query | {"limit": 240}), schemas.SpreadReply)["items"]
    assert len(every) == pair["masks"] and {(i["old"], i["new"]) for i in every} == {(pair["old"], pair["new"])}
    chances = [item["probability"] for item in every]
    assert chances == sorted(chances, reverse=True)
    assert good(client.get("/api/spread", params=query | {"limit": 1, "offset": 1}))["items"] == every[1:2]
    assert good(client.get("/api/spread", params={"old": 999, "new": 0}))["items"] == []
    refused(client.get("/api/spread?old=1"), 422, "bad_request", "expected both or neither")
    for odd in ("old=-2&new=1", "offset=-1", "limit=0", "limit=241", "old=x&new=1"):
        refused(client.get(f"/api/spread?{odd}"), 422, "bad_request")


def test_changes_are_accepted_and_taken_back(client, desk):
    finish(client, desk)
    _, old, new, probability = desk._proposals()
    pair = int(old[0]), int(new[0])
    body = {"annotator": "Eve", "threshold": 0.8, "rejected": [pair]}
    done = good(client.post("/api/spread/accept", json=body), schemas.AcceptedReply)
    kept = (probability >= 0.8) & ~((old == pair[0]) & (new == pair[1]))
    assert (done["changed"], done["left_out"]) == (kept.sum(), (~kept).sum()) and done["status"]["round"] == 2
    assert (
        good(client.post("/api/spread/undo", json={"annotator": "Eve"}), schemas.UndoneReply)["changed"] == kept.sum()
    )
    refused(client.post("/api/spread/undo", json={"annotator": "Eve"}), 409, "not_now")


def test_a_round_is_finished_early(client, desk):
    before = good(client.get("/api/status"), schemas.StatusBody)
    found = good(client.post("/api/round/finish", json={"annotator": "Eve"}), schemas.StatusBody)
    assert found["budget"] < before["budget"] and found["finishing"] and not before["finishing"]
    finish(client, desk)
    refused(client.post("/api/round/finish", json={"annotator": "Eve"}), 409, "not_now")


@pytest.mark.parametrize(
    "change", ['"threshold": -0.1', '"threshold": 1.1', '"threshold": NaN', '"threshold": Infinity', '"threshold": 1e999',
               '"threshold": "1"', '"threshold": 0.5, "rejected": [[1]]', '"threshold": 0.5, "rejected": [[1, 2, 3]]',
               '"threshold": 0.5, "rejected": [[-2, 1]]', '"threshold": 0.5, "rejected": {}'],
)  # fmt: skip
def test_odd_thresholds_and_pairs(client, desk, change):
    finish(client, desk)
    body = f'{{"annotator": "Eve", {change}}}'
    reply = client.post("/api/spread/accept", content=body, headers={"content-type": "application/json"})
    refused(reply, 422, "bad_request")
    assert not desk.accepted


# ---- figures and exports --------------------------------------------------------------------------------------------


def test_the_dashboard_has_no_nan(client, desk):
    finish(client, desk)
    client.post("/api/spread/accept", json={"annotator": "Eve", "threshold": 0.8})
    found = good(client.get("/api/dashboard"), schemas.DashboardReply)
    assert found["data_miou"] is None and found["rounds"][0]["data_miou"] is None and found["answers"] == 16
    assert isinstance(found["changes"][0]["from"], int), "numpy's numbers are numbers"


def test_an_export_is_made_and_fetched(client, project):
    made = good(client.post("/api/export", json={"annotator": "Eve"}), schemas.ExportedReply)
    assert made["path"] == f"exports/{made['name']}" and made["files"] == 5
    reply = client.get(made["download"])
    assert reply.status_code == 200 and reply.headers["content-type"] == "application/zip"
    dressed(reply)
    assert reply.headers["content-disposition"] == f'attachment; filename="{made["name"]}.zip"'
    assert reply.headers["cache-control"] == "no-store" and "content-encoding" not in reply.headers
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert archive.testzip() is None
        folder = project.folder / "exports" / made["name"]
        files = sorted(p.relative_to(folder.parent).as_posix() for p in folder.rglob("*") if p.is_file())
        assert sorted(archive.namelist()) == files and len(files) == 5
        for name in files:
            assert archive.read(name) == (folder.parent / name).read_bytes()


@pytest.mark.parametrize(
    "name",
    ["..", ".", "..%2f..%2fledger", "%2e%2e", "%2e%2e%2fexports", "..%5c..", ".hidden", "a/b", "a%2fb", "x" * 81, "a%00b", "nix",
     "%2fetc", "a%0ab", "ä", "labels-0%20", "link", "file"],
)  # fmt: skip
def test_exports_that_are_none(client, desk, project, name):
    desk.export()
    exports = project.folder / "exports"
    (exports / ".hidden").mkdir(exist_ok=True)
    (exports / "file").write_text("no folder")
    if not (exports / "link").is_symlink():
        (exports / "link").symlink_to(project.folder / "labels")
    reply = client.get(f"/api/exports/{name}.zip")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] in {"no_such_export", "not_found"}
    refused(client.get("/api/exports/labels-0"), 404, "not_found")


def test_links_in_an_export_are_left_out(client, desk, project, tmp_path):
    name, _ = desk.export()
    folder = project.folder / "exports" / name
    (tmp_path / "secret.txt").write_text("secret")
    links = {folder / "secret.txt": tmp_path / "secret.txt", folder / "secrets": tmp_path}
    os.mkfifo(folder / "pipe") if hasattr(os, "mkfifo") else None
    try:
        for link, target in links.items():
            link.symlink_to(target)
        data = client.get(f"/api/exports/{name}.zip").content
    finally:
        for made in (*links, folder / "pipe"):
            made.unlink(missing_ok=True)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert not [entry for entry in archive.namelist() if "secret" in entry or "pipe" in entry]
    assert b"secret" not in data


def test_an_exports_folder_that_leads_elsewhere(client, desk, project):
    name, _ = desk.export()
    exports, moved = project.folder / "exports", project.folder / "moved"
    exports.rename(moved)
    exports.symlink_to(moved)
    try:
        refused(client.get(f"/api/exports/{name}.zip"), 404, "no_such_export")
    finally:
        exports.unlink()
        moved.rename(exports)


# ---- the page -------------------------------------------------------------------------------------------------------


@pytest.fixture
def static(tmp_path, monkeypatch):
    folder = tmp_path / "package" / "static"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>a2lc</title>")
    (folder / "app.js").write_text("export const a = 1;\n" * 300)
    (folder / "app.css").write_text("body { margin: 0 }")
    (folder / "icon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "site.webmanifest").write_text("{}")
    (folder / "notes.md").write_text("not for others")
    (folder.parent / "secret.js").write_text("secret")
    (folder / "link.js").symlink_to(folder.parent / "secret.js")
    monkeypatch.setattr(page, "STATIC", folder)
    return folder


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/static/index.html", "text/html; charset=utf-8"),
        ("/static/app.js", "text/javascript; charset=utf-8"),
        ("/static/app.css", "text/css; charset=utf-8"),
        ("/static/icon.svg", "image/svg+xml"),
        ("/static/site.webmanifest", "application/manifest+json"),
        ("/favicon.ico", "image/svg+xml"),
    ],
)
def test_files_of_the_page(static, desk, path, kind):
    client = client_of(desk)
    reply = client.get(path)
    assert reply.status_code == 200 and reply.headers["content-type"] == kind
    assert reply.headers["cache-control"] == "no-cache"
    dressed(reply)
    again = client.get(path, headers={"if-none-match": reply.headers["etag"]})
    assert again.status_code == 304 and not again.content
    dressed(again)
    refused(client.post(path, json={}), 405, "method_not_allowed")
    assert client.get(path, headers={"authorization": ""}).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["../secret.js", "..%2fsecret.js", "%2e%2e/secret.js", "%2e%2e%2fsecret.js", "..%5csecret.js", "....//secret.js",
     "/etc/passwd", "%2fetc%2fpasswd", "notes.md", "link.js", "app.js%00.css", "APP.JS", "", "app.js/", "../../project.yaml",
     "x" * 5000],
)  # fmt: skip
def test_other_files_are_not_there(static, desk, path):
    reply = client_of(desk).get(f"/static/{path}")
    refused(reply, 404, "not_found")


def test_files_added_later_are_not_there(static, desk):
    client = client_of(desk)
    (static / "late.js").write_text("1")
    refused(client.get("/static/late.js"), 404, "not_found")


def test_a_page_without_an_icon(static, desk):
    (static / "icon.svg").unlink()
    assert client_of(desk).get("/favicon.ico").status_code == 204


def test_long_text_is_compressed(static, desk):
    client = client_of(desk)
    reply = client.get("/static/app.js")
    assert reply.headers["content-encoding"] == "gzip" and reply.text.startswith("export")
    assert client.get("/api/status").headers.get("content-encoding") is None
    assert client.get("/static/app.js", headers={"accept-encoding": "identity"}).headers.get("content-encoding") is None


def test_the_docs_need_nobody_else(client):
    reply = client.get("/api/docs")
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/html")
    dressed(reply)
    text = reply.text
    assert "/api/openapi.json" in text and "<script" not in text and "http" not in text.replace("http-equiv", "")
    assert "style=" not in text and "<style" not in text
    schema = client.get("/api/openapi.json").json()
    for path in schema["paths"]:
        assert f"<code>{path}</code>" in text


def test_every_endpoint_of_the_contract_is_there(client):
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} == {
        ("get", "/api/project"), ("get", "/api/status"), ("post", "/api/lease"), ("post", "/api/release"), ("post", "/api/grid"),
        ("get", "/api/questions/{query_id}"), ("get", "/api/images/{index}/crop.jpg"), ("get", "/api/images/{index}/whole.jpg"),
        ("post", "/api/answers"), ("get", "/api/history"), ("post", "/api/questions/{query_id}/parts"), ("get", "/api/spread"),
        ("post", "/api/spread/accept"), ("post", "/api/round/finish"), ("post", "/api/spread/undo"),
        ("get", "/api/dashboard"), ("post", "/api/export"),
        ("get", "/api/exports/{name}.zip"), ("get", "/api/health"),
    }  # fmt: skip


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_paths_and_methods_that_are_not_there(client):
    refused(client.get("/api/nowhere"), 404, "not_found", "'/api/nowhere'")
    refused(client.get("/api/status/"), 404, "not_found")
    refused(client.get("/docs"), 404, "not_found")
    refused(client.get("/redoc"), 404, "not_found")
    reply = client.get("/api/answers")
    refused(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"
    refused(client.request("DELETE", "/api/status", json={}), 405, "method_not_allowed")
    refused(client.options("/api/answers", headers={"origin": "http://evil.example"}), 405, "method_not_allowed")
    assert "access-control-allow-origin" not in client.options("/api/answers").headers


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"nothing", 400),
        (b'{"annotator": "Eve", "count": 1,}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"annotator": "Eve", "count": ' + b"9" * 5000 + b"}", 400),
        (b"[]", 422),
        (b"null", 422),
        (b'"text"', 422),
    ],
)
def test_bodies_that_are_no_json_object(client, body, status):
    reply = client.post("/api/lease", content=body, headers={"content-type": "application/json"})
    refused(reply, status, "bad_request")


def test_the_guard_is_there(client):
    refused(
        client.post("/api/lease", content=b"x" * (2 << 20), headers={"content-type": "application/json"}),
        413,
        "too_large",
    )

    def chunks():
        yield b"x" * (2 << 20)

    refused(client.post("/api/lease", content=chunks(), headers={"content-type": "application/json"}), 413, "too_large")
    refused(client.post("/api/lease", data={"annotator": "Eve"}), 415, "not_json")
    refused(client.post("/api/lease", json={}, headers={"origin": "http://evil.example"}), 403, "wrong_origin")
    refused(client.get("/api/status", headers={"host": "evil.example"}), 403, "wrong_host")
    refused(client.get("/api/status", headers={"authorization": "Bearer wrong"}), 401, "no_token")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InputError("odd\ninput"), 422, "bad_input"),
        (LockedError("another works on it"), 409, "locked"),
        (StageError("too early"), 409, "wrong_stage"),
        (AlreadyAnsweredError("answered"), 409, "already_answered"),
        (PoolExhaustedError("all asked"), 409, "not_now"),
        (LedgerError("the ledger is damaged"), 500, "internal"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "disk_full"),
        (OSError(errno.EIO, "secret path"), 500, "internal"),
        (RuntimeError("secret"), 500, "internal"),
        (ValueError("secret"), 500, "internal"),
    ],
)
def test_errors_of_the_desk(client, desk, monkeypatch, capsys, error, status, code):
    def broken():
        raise error

    monkeypatch.setattr(desk, "status", broken)
    message = refused(client.get("/api/status"), status, code)
    assert "secret" not in message
    assert (type(error).__name__ in capsys.readouterr().err) == (status >= 500)


def test_a_damaged_project_is_no_bad_answer(client, desk, monkeypatch):
    def broken(_):
        raise LedgerError("the ledger is damaged")

    monkeypatch.setattr(desk, "question", broken)
    said = {"query_id": 1, "kind": "classes", "classes": [1], "parts": {"method": "clicks", "points": [[0, 0, 1]]}}
    body = {"annotator": "Eve", "answers": [said]}
    refused(client.post("/api/answers", json=body), 500, "internal", "the ledger is damaged")


# ---- the process ----------------------------------------------------------------------------------------------------


def test_a_port_is_held_before_anything_is_served(client):
    server = Server("127.0.0.1", 0)
    try:
        assert server.port > 0 and server.address == f"127.0.0.1:{server.port}"
        assert set(server.hosts) == {f"127.0.0.1:{server.port}", f"localhost:{server.port}", f"[::1]:{server.port}"}
        with pytest.raises(InputError, match=rf"Cannot listen on 127.0.0.1, port {server.port}: .*`port`"):
            Server("127.0.0.1", server.port)
    finally:
        server.close()
    with pytest.raises(InputError, match=r"Cannot listen on 127.0.0.1, port 70000"):
        Server("127.0.0.1", 70000)


def test_more_names_of_a_server():
    server = Server("127.0.0.1", 0, names=["Lab", "tunnel.example:9000"])
    server.close()
    assert f"lab:{server.port}" in server.hosts and "tunnel.example:9000" in server.hosts
    assert f"tunnel.example:9000:{server.port}" not in server.hosts


def test_a_server_for_others_has_its_own_names(monkeypatch):
    monkeypatch.setattr(process, "_own_names", lambda: ["labserver", "10.0.0.7"])
    monkeypatch.setattr(process.socket, "gethostname", lambda: "labserver")
    server = Server("0.0.0.0", 0)
    server.close()
    assert server.address == f"labserver:{server.port}"
    assert {f"labserver:{server.port}", f"10.0.0.7:{server.port}", f"localhost:{server.port}"} <= set(server.hosts)
    assert not [name for name in server.hosts if name.startswith("0.0.0.0")]


def test_a_server_runs_until_it_is_told_to_stop(client):
    server, told = Server("127.0.0.1", 0), []

    def ready():
        told.append(True)
        server.stop()

    thread = threading.Thread(target=server.run, args=(client.app, ready))
    thread.start()
    thread.join(timeout=30)
    server.close()
    assert told and not thread.is_alive()


def test_a_server_that_was_told_to_stop_before_does_not_stay(client):
    server = Server("127.0.0.1", 0)
    server.stop()
    thread = threading.Thread(target=server.run, args=(client.app,), daemon=True)
    thread.start()
    thread.join(timeout=30)
    server.close()
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_order(number):
    before = signal.getsignal(number)
    running = process._Uvicorn(uvicorn.Config(lambda: None), ready=lambda: None)
    with running.capture_signals():
        signal.raise_signal(number)
    assert running.should_exit, "and this process is still there"
    assert signal.getsignal(number) is before


@pytest.mark.slow
def test_serving_needs_no_torch():
    code = "import a2lc.serve.app, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
