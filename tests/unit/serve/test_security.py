"""What stands before every request: host, token, origin, content type, size, headers."""

import asyncio
import json

import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.testclient import TestClient

from a2lc.serve.security import BODY_LIMIT, CONTENT_SECURITY_POLICY, SECURITY_HEADERS, Guard, error_response, host_names

TOKEN = "s3cret_Token-1"
HOST = "127.0.0.1:8765"
BEARER = {"authorization": f"Bearer {TOKEN}"}
JSON = {"content-type": "application/json"}


async def echo(scope, receive, send):
    """Says how many bytes came, or breaks."""
    if scope["path"] == "/broken":
        raise RuntimeError("the password is hunter2")
    if scope["path"] == "/half":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle")
    size, more = 0, scope["method"] == "POST"
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    reply = PlainTextResponse("kept", headers={"cache-control": "private, max-age=3600"})
    await (reply if scope["path"] == "/cached" else JSONResponse({"bytes": size}))(scope, receive, send)


def client(hosts=(HOST, "localhost:8765"), **other):
    guard = Guard(echo, token=TOKEN, hosts=hosts)
    return TestClient(guard, base_url=f"http://{HOST}", follow_redirects=False, **other)


def refused(reply, status, code):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message"} and body["error"]["code"] == code
    assert body["error"]["message"] and "\n" not in body["error"]["message"]
    return body["error"]["message"]


# ---- token ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": "Bearer s3cret_Token-"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": "Bearer s3cret_Tok\xe9n-1".encode("latin-1")},
        {"cookie": "a2lc-8765=wrong"},
        {"cookie": f"a2lc={TOKEN}"},
        {"cookie": f"a2lc-8766={TOKEN}"},
        {"cookie": f"xa2lc-8765={TOKEN}"},
        {"cookie": "a2lc-8765"},
    ],
)
def test_nobody_comes_in_without_the_token(headers):
    for path in ("/", "/api/status", "/static/app.js", "/nowhere"):
        reply = client().get(path, headers=headers)
        if path == "/":
            assert reply.status_code == 401 and "a2lc serve" in reply.text and "<script" not in reply.text
        else:
            refused(reply, 401, "no_token")
    refused(client().post("/api/answers", headers=headers | JSON, content=b"{}"), 401, "no_token")


@pytest.mark.parametrize("headers", [BEARER, {"cookie": f"a2lc-8765={TOKEN}"}])
def test_header_and_cookie_both_open(headers):
    assert client().get("/api/status", headers=headers).status_code == 200


def test_one_odd_cookie_does_not_hide_ours():
    cookie = f'other="\x01; [bad]=1; a2lc-8765=old; a2lc-8765={TOKEN}; x'
    assert client().get("/api/status", headers={"cookie": cookie}).status_code == 200


def test_the_address_with_the_token_signs_in():
    visitor = client()
    reply = visitor.get(f"/?token={TOKEN}")
    assert reply.status_code == 303 and reply.headers["location"] == "/"
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"a2lc-8765={TOKEN};")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; ")) and "Secure" not in cookie
    assert visitor.get("/api/status").status_code == 200, "the cookie is kept"


def test_the_cookie_is_for_tls_alone_where_there_is_tls():
    guard = Guard(echo, token=TOKEN, hosts=["labels.example"])
    visitor = TestClient(guard, base_url="https://labels.example", follow_redirects=False)
    cookie = visitor.get(f"/?token={TOKEN}").headers["set-cookie"]
    assert "Secure" in cookie and cookie.startswith("a2lc-443=")


def test_the_token_in_an_address_signs_in_nowhere_else():
    assert client().get("/?token=wrong").status_code == 401
    assert "set-cookie" not in client().get("/?token=wrong").headers
    refused(client().get(f"/api/status?token={TOKEN}"), 401, "no_token")
    refused(client().post(f"/?token={TOKEN}", headers=JSON, content=b"{}"), 401, "no_token")


def test_tokens_are_compared_in_constant_time(monkeypatch):
    seen = []
    monkeypatch.setattr("a2lc.serve.security.hmac.compare_digest", lambda a, b: seen.append((a, b)) or a == b)
    client().get("/api/status", headers={"authorization": "Bearer wrong"})
    assert seen == [(b"wrong", TOKEN.encode())]


@pytest.mark.parametrize("token", ["", "with space", "a;b", "ü"])
def test_a_token_that_would_not_hold_is_refused(token):
    with pytest.raises(ValueError, match=r"A token is one or more of A-Z"):
        Guard(echo, token=token, hosts=[HOST])


# ---- host and origin ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8765.evil.example", ""]
)
def test_other_names_are_refused(host):
    reply = client().get("/api/status", headers=BEARER | {"host": host})
    assert "127.0.0.1:8765" in refused(reply, 403, "wrong_host")
    assert "set-cookie" not in client().get(f"/?token={TOKEN}", headers={"host": host}).headers


def test_two_host_headers_are_refused():
    sent = asyncio.run(spoken([(b"host", HOST.encode()), (b"host", b"evil.example")], method="GET"))
    assert sent[0]["status"] == 403


def test_case_of_a_name_does_not_matter():
    assert client().get("/api/status", headers=BEARER | {"host": "LocalHost:8765"}).status_code == 200


@pytest.mark.parametrize(
    "extra",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8765"},
        {"origin": "http://127.0.0.1"},
        {"origin": "http://127.0.0.1:8766"},
        {"origin": "http://localhost:8765"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:8765", "sec-fetch-site": "cross-site"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_pages_of_others_change_nothing(extra, method):
    reply = client().request(method, "/api/answers", headers=BEARER | JSON | extra, content=b"{}")
    refused(reply, 403, "wrong_origin")


@pytest.mark.parametrize(
    "extra", [{}, {"origin": "http://127.0.0.1:8765", "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}]
)
def test_our_own_page_may(extra):
    assert client().post("/api/answers", headers=BEARER | JSON | extra, content=b"{}").json() == {"bytes": 2}


def test_host_names():
    assert host_names(["127.0.0.1", "LAB", "::1", "[::1]"], 8000) == ("127.0.0.1:8000", "lab:8000", "[::1]:8000")
    assert host_names(["lab"], 80) == ("lab:80", "lab"), "browsers leave out the port 80"


# ---- bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
)
def test_only_json_comes_in(kind):
    headers = BEARER | ({} if kind is None else {"content-type": kind})
    refused(client().post("/api/answers", headers=headers, content=b"{}"), 415, "not_json")


def test_json_with_a_charset_comes_in():
    headers = BEARER | {"content-type": "Application/JSON; charset=utf-8"}
    assert client().post("/api/answers", headers=headers, content=b"{}").status_code == 200


def test_size_of_a_body():
    sent = client().post("/api/answers", headers=BEARER | JSON, content=b"x" * BODY_LIMIT)
    assert sent.json() == {"bytes": BODY_LIMIT}
    refused(client().post("/api/answers", headers=BEARER | JSON, content=b"x" * (BODY_LIMIT + 1)), 413, "too_large")


@pytest.mark.parametrize(
    ("length", "status"),
    [(b"9" * 5000, 413), (b"-1", 400), (b"1e3", 400), (b"\xb2", 400), (b"0" * 30 + b"2", 200)],
)
def test_odd_lengths(length, status):
    headers = [(b"host", HOST.encode()), (b"content-length", length), *auth()]
    sent = asyncio.run(spoken(headers, [{"type": "http.request", "body": b"{}"}]))
    assert sent[0]["status"] == status


def auth():
    return [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", b"application/json")]


async def spoken(headers, messages=(), method="POST", path="/api/answers"):
    """What the guard sends on messages that come one by one; those that were not fetched stay in the list."""
    messages, sent = messages if isinstance(messages, list) else list(messages), []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "scheme": "http", "query_string": b"", "headers": headers}
    await Guard(echo, token=TOKEN, hosts=[HOST])(scope, receive, send)
    return sent


@pytest.mark.parametrize("length", [[], [(b"content-length", b"10")]])
def test_a_body_is_counted_whatever_its_length_says(length):
    chunks = [{"type": "http.request", "body": b"x" * 65536, "more_body": True} for _ in range(100)]
    sent = asyncio.run(spoken([(b"host", HOST.encode()), *auth(), *length], chunks))
    assert sent[0]["status"] == 413 and json.loads(sent[1]["body"])["error"]["code"] == "too_large"
    assert len(chunks) == 100 - (BODY_LIMIT // 65536 + 1), "the rest is not even fetched"


def test_a_body_in_pieces_comes_together():
    chunks = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"}]
    sent = asyncio.run(spoken([(b"host", HOST.encode()), *auth()], chunks))
    assert json.loads(sent[1]["body"]) == {"bytes": 3}


def test_a_body_is_not_fetched_of_who_has_no_token():
    chunks = [{"type": "http.request", "body": b"x", "more_body": True}]
    sent = asyncio.run(spoken([(b"host", HOST.encode())], chunks))
    assert sent[0]["status"] == 401 and len(chunks) == 1


def test_a_client_that_goes_away_ends_quietly():
    gone = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
    sent = asyncio.run(spoken([(b"host", HOST.encode()), *auth()], gone))
    assert sent[0]["status"] == 200, "the application sees that it went, and nothing is made up"


# ---- headers and errors ---------------------------------------------------------------------------------------------


def dressed(reply):
    for name, value in SECURITY_HEADERS.items():
        assert reply.headers[name] == value
    assert "cache-control" in reply.headers


def test_every_reply_carries_the_headers(capsys):
    visitor = client()
    replies = [
        visitor.get("/"),
        visitor.get("/api/status"),
        visitor.get("/api/status", headers=BEARER),
        visitor.get("/api/status", headers={"host": "evil.example"}),
        visitor.post("/api/answers", headers=BEARER),
        visitor.post("/api/answers", headers=BEARER | JSON, content=b"x" * (BODY_LIMIT + 1)),
        visitor.get("/broken", headers=BEARER),
        visitor.get(f"/?token={TOKEN}"),
    ]
    assert [reply.status_code for reply in replies] == [401, 401, 200, 403, 415, 413, 500, 303]
    for reply in replies:
        dressed(reply)
        assert reply.headers["cache-control"] == "no-store"


def test_a_reply_says_itself_how_long_it_may_be_kept():
    assert client().get("/cached", headers=BEARER).headers["cache-control"] == "private, max-age=3600"


def test_no_script_or_style_in_a_page_would_run():
    rules = dict(rule.strip().split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split(";"))
    assert rules["default-src"] == "'none'" and rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_an_error_nobody_caught_says_nothing_secret(capsys):
    message = refused(client().get("/broken", headers=BEARER), 500, "internal")
    assert "hunter2" not in message
    assert "RuntimeError: the password is hunter2" in capsys.readouterr().err


def test_half_a_reply_is_cut_off(capsys):
    with pytest.raises(RuntimeError, match="in the middle"):
        client().get("/half", headers=BEARER)


def test_an_error_opens_no_tag():
    reply = error_response(422, "bad_input", "<script>alert(1)</script>")
    assert b"<" not in reply.body and json.loads(reply.body)["error"]["message"] == "<script>alert(1)</script>"


def test_websockets_find_nothing():
    async def never():
        raise AssertionError("nothing is read")

    asyncio.run(Guard(echo, token=TOKEN, hosts=[HOST])({"type": "websocket"}, never, never))
