"""HTTP as nobody should speak it: each exchange is answered as it must be or broken off, and stores nothing.

What is no HTTP at all is refused by uvicorn itself, in plain text, and the connection closed.
"""

import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import httpx
import pytest

from tests.faults.conftest import Services, stored
from tests.faults.fleet import wait_until

numbers = count()
refused = pytest.mark.usefixtures("nothing_changes")
services = pytest.mark.parametrize("service", ["results", "analysis"])
PUSH = {"results": "/standardized_output", "analysis": "/analysis"}
READ = {"results": "/raw_input", "analysis": "/analysis/summary"}


def body_for(service: str) -> bytes:
    """A body that would be taken."""
    if service == "analysis":
        return b'{"benchmark": "math500", "level1": "level"}'
    document = {"run_id": f"http-{next(numbers)}", "benchmark_name": "math500", "model_id": "gpt-4", "source": "t"}
    return json.dumps(document | {"timestamp": "2024-01-01T12:00:00Z", "data": {"questions": []}}).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        """The type of the problem that it is, without what all have in common."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(json.loads(self.body)["type"]).removeprefix("urn:scorehouse:problem:")


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    """A connection of our own to the service behind a client."""
    assert client.base_url.port is not None
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=10) as connection:
        yield connection


def read_answers(connection: socket.socket, number: int = 1) -> list[Answer]:
    """The next answers; fewer if the connection ends before."""
    stream = connection.makefile("rb")
    answers: list[Answer] = []
    while len(answers) < number:
        line = stream.readline()
        if not line:
            break
        status = int(line.split()[1])
        headers = {}
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if status == 100:
            continue
        body = stream.read(int(headers["content-length"])) if "content-length" in headers else stream.read()
        answers.append(Answer(status, headers, body))
    return answers


def exchange(client: httpx.Client, request: bytes) -> Answer | None:
    """The answer to a request as it stands; None if the connection was closed without one."""
    with connected(client) as connection:
        connection.sendall(request.replace(b"HOST", f"Host: 127.0.0.1:{client.base_url.port}".encode()))
        connection.shutdown(socket.SHUT_WR)
        return next(iter(read_answers(connection)), None)


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "HOST", *headers, "", ""]).encode("latin-1") + body


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


LENGTHS = ["-1", "abc", "1e3", "+5", "0x10", "5,5", "5 5", "", str(2**64), str(2**70), "5\r\nContent-Length: 6"]
LENGTHS += ["5\r\nTransfer-Encoding: chunked"]


@refused
@services
@pytest.mark.parametrize("length", LENGTHS)
def test_lengths_that_are_none(service: str, length: str, open_services: Services) -> None:
    sent = request("POST", PUSH[service], f"Content-Length: {length}", body=body_for(service))
    answer = exchange(getattr(open_services, service), sent)
    assert answer is not None
    assert answer.status == 400


@refused
@services
@pytest.mark.parametrize("length", [2**40, 2**63, 2**64 - 1])
def test_lengths_beyond_the_limit_are_refused_before_the_body(
    service: str, length: int, open_services: Services
) -> None:
    client = getattr(open_services, service)
    with connected(client) as connection:
        head = request("POST", PUSH[service], f"Content-Length: {length}")
        connection.sendall(head.replace(b"HOST", f"Host: 127.0.0.1:{client.base_url.port}".encode()))
        [answer] = read_answers(connection)
    assert (answer.status, answer.problem) == (413, "too-large")


ENCODINGS = ["gzip", "identity", "chunked, chunked", "chunked, gzip", "xchunked", "chunked\r\nTransfer-Encoding: x"]


@refused
@services
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_transfer_encodings_that_are_none(service: str, encoding: str, open_services: Services) -> None:
    sent = request("POST", PUSH[service], f"Transfer-Encoding: {encoding}", body=chunked(body_for(service), 10))
    answer = exchange(getattr(open_services, service), sent)
    assert answer is not None
    assert answer.status == 400


@refused
@services
@pytest.mark.parametrize("size", [b"xyz", b"-5", b"", b"0x5", b"5 5", b"F" * 17, b"\0", b"1" * 100])
def test_chunks_that_are_none(service: str, size: bytes, open_services: Services) -> None:
    body = size + b"\r\n{}\r\n0\r\n\r\n"
    sent = request("POST", PUSH[service], "Transfer-Encoding: chunked", body=body)
    answer = exchange(getattr(open_services, service), sent)
    assert answer is not None
    assert answer.status == 400


@services
@pytest.mark.parametrize("shape", ["one byte each", "extensions", "zeros and a trailer", "upper case"])
def test_odd_chunks_are_chunks(service: str, shape: str, open_services: Services) -> None:
    body = body_for(service)
    size = f"{len(body):x}".encode()
    sent = {
        "one byte each": chunked(body, 1),
        "extensions": size + b';a=b;c="d"\r\n' + body + b"\r\n0;x\r\n\r\n",
        "zeros and a trailer": b"0000" + size + b"\r\n" + body + b"\r\n000\r\nX-Trailer: 1\r\n\r\n",
        "upper case": size.upper() + b"\r\n" + body + b"\r\n0\r\n\r\n",
    }[shape]
    with connected(getattr(open_services, service)) as connection:
        whole = request("POST", PUSH[service], "Transfer-Encoding: chunked", body=sent)
        connection.sendall(whole.replace(b"HOST", b"Host: localhost"))
        [answer] = read_answers(connection)
    assert answer.status in (200, 201)


HEADS = {
    "NUL in a header": b"GET /health HTTP/1.1\r\nHOST\r\nX-A: a\0b\r\n\r\n",
    "bare line feeds": b"GET /health HTTP/1.1\nHOST\nX-A: a\n\n",
    "a folded header": b"GET /health HTTP/1.1\r\nHOST\r\nX-A: a\r\n b\r\n\r\n",
    "a space in a name": b"GET /health HTTP/1.1\r\nHOST\r\nX A: a\r\n\r\n",
    "a space after a name": b"GET /health HTTP/1.1\r\nHOST\r\nX-A : a\r\n\r\n",
    "no name": b"GET /health HTTP/1.1\r\nHOST\r\n: a\r\n\r\n",
    "NUL in the path": b"GET /health\0 HTTP/1.1\r\nHOST\r\n\r\n",
    "bytes in the path": b"GET /\xff HTTP/1.1\r\nHOST\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nHOST\r\n\r\n",
    "a path without a slash": b"GET health HTTP/1.1\r\nHOST\r\n\r\n",
    "a long path": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHOST\r\n\r\n",
    "HTTP/9.9": b"GET /health HTTP/9.9\r\nHOST\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "an unknown method": b"FOO /health HTTP/1.1\r\nHOST\r\n\r\n",
    "a method in lower case": b"get /health HTTP/1.1\r\nHOST\r\n\r\n",
    "noise": bytes(range(256)) * 20,
}


@refused
@services
@pytest.mark.parametrize("head", [*HEADS.values()], ids=HEADS)
def test_what_is_no_http(service: str, head: bytes, open_services: Services) -> None:
    answer = exchange(getattr(open_services, service), head)
    assert answer is not None
    assert answer.status == 400


@refused
@services
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PATCH", "DELETE", "PUT", "LINK", "PROPFIND"])
def test_methods_that_nothing_takes(service: str, method: str, open_services: Services) -> None:
    client = getattr(open_services, service)
    allowed = {PUSH[service]: {"POST"}, "/health": {"GET"}} | (
        {READ[service]: {"GET"}} if service == "analysis" else {}
    )
    for path, methods in allowed.items():
        with connected(client) as connection:
            sent = request(method, path, "Content-Length: 0").replace(b"HOST", b"Host: localhost")
            connection.sendall(sent)
            [answer] = read_answers(connection)
        assert (answer.status, answer.problem) == (405, "method-not-allowed")
        assert methods <= set(answer.headers["allow"].split(", ")) <= {"GET", "HEAD", "POST"}
    answer_of_nothing = client.request(method, "/nothing")
    assert answer_of_nothing.status_code == 404
    assert "x-secret" not in client.request("TRACE", "/health", headers={"X-Secret": "1"}).text.lower()


PATHS = ["//raw_input", "//analysis", "/raw_input//x", "/./health", "/x/../health", "/%2e%2e/x", "//evil.example/"]
PATHS += ["//evil.example/%2f..", "/\\evil.example", "/v1", "/v1/health/x", "/raw_input/a/b", "/.env", "/.git/config"]
PATHS += ["/static-offline-docs/../../etc/passwd", "/static-offline-docs/..%2f..%2f..%2fetc%2fpasswd"]
PATHS += ["/static-offline-docs/%2e%2e/%2e%2e/%2e%2e/__init__.py", "/static-offline-docs/%00", "*"]


@refused
@services
@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_nowhere(service: str, path: str, open_services: Services) -> None:
    with connected(getattr(open_services, service)) as connection:
        connection.sendall(request("GET", path).replace(b"HOST", b"Host: localhost"))
        [answer] = read_answers(connection)
    assert (answer.status, answer.problem) == (404, "not-found")


TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png", "", "/;;"]
TYPES += ["application/json; charset=utf-16", "application/json, text/html", "application/xml"]


@services
@pytest.mark.parametrize("content_type", TYPES)
def test_json_is_json_whatever_it_is_called(service: str, content_type: str, open_services: Services) -> None:
    client = getattr(open_services, service)
    answer = client.post(PUSH[service], content=body_for(service), headers={"Content-Type": content_type})
    assert answer.status_code in (200, 201)


@refused
@services
@pytest.mark.parametrize(
    "body",
    [
        b"<a/>",
        b"a=b&c=d",
        b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n{}\r\n--x--",
        b"\x89PNG\r\n",
        b"key: value",
    ],
)
def test_what_is_called_json_must_be_json(service: str, body: bytes, open_services: Services) -> None:
    client = getattr(open_services, service)
    answer = client.post(PUSH[service], content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:scorehouse:problem:malformed-json"


@refused
@services
@pytest.mark.parametrize(
    ("encoding", "status", "problem"),
    [
        *((name, 400, "undecodable-body") for name in ("gzip", "zstd", "GZIP")),
        *((name, 415, "unsupported-media") for name in ("br", "deflate", "x", "gzip, gzip", "identity, gzip", "\xff")),
    ],
)
def test_encodings_that_lie(service: str, encoding: str, status: int, problem: str, open_services: Services) -> None:
    client = getattr(open_services, service)
    headers = {"Content-Encoding": encoding.encode("latin-1")}
    answer = client.post(PUSH[service], content=body_for(service), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:scorehouse:problem:{problem}")


@refused
@services
def test_compressed_bytes_that_are_not_said_to_be(service: str, open_services: Services) -> None:
    answer = getattr(open_services, service).post(PUSH[service], content=gzip.compress(body_for(service)))
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:scorehouse:problem:malformed-json"


@refused
@pytest.mark.parametrize("sent", ["the head", "a part", "a chunk", "all but one byte"])
def test_gone_in_the_middle_of_a_body(sent: str, open_services: Services) -> None:
    body = body_for("results")
    length = request("POST", PUSH["results"], f"Content-Length: {len(body)}")
    whole = {
        "the head": length,
        "a part": length + body[: len(body) // 2],
        "all but one byte": length + body[:-1],
        "a chunk": request("POST", PUSH["results"], "Transfer-Encoding: chunked", body=b"%x\r\n" % len(body) + body),
    }[sent]
    with connected(open_services.results) as connection:
        connection.sendall(whole.replace(b"HOST", b"Host: localhost"))


def test_gone_before_the_answer_is_stored_all_the_same(open_services: Services) -> None:
    before = stored(open_services)
    body = body_for("results")
    with connected(open_services.results) as connection:
        whole = request("POST", PUSH["results"], f"Content-Length: {len(body)}", body=body)
        connection.sendall(whole.replace(b"HOST", b"Host: localhost"))
    wait_until(lambda: len(stored(open_services).names) == len(before.names) + 1, "it is stored", 10)
    assert open_services.results.post(PUSH["results"], content=body).status_code == 200


def test_a_slow_body_is_waited_for_while_others_are_served(open_services: Services) -> None:
    body = body_for("results")
    with connected(open_services.results) as connection:
        head = request("POST", PUSH["results"], f"Content-Length: {len(body)}").replace(b"HOST", b"Host: localhost")
        for byte in head[:-1]:
            connection.sendall(bytes([byte]))
        connection.sendall(head[-1:])
        for start in range(0, len(body), 20):
            connection.sendall(body[start : start + 20])
            assert open_services.results.get("/health").status_code == 200
        [answer] = read_answers(connection)
    assert answer.status == 201


@services
def test_pipelined_requests_are_answered_in_their_order(service: str, open_services: Services) -> None:
    body = body_for(service)
    host = "Host: localhost"
    parts = [
        request("GET", "/health"),
        request("POST", PUSH[service], f"Content-Length: {len(body)}", body=body),
        request("GET", "/nothing"),
        request("POST", PUSH[service], "Transfer-Encoding: chunked", body=chunked(body, 7)),
        request("GET", "/health"),
    ]
    with connected(getattr(open_services, service)) as connection:
        connection.sendall(b"".join(parts).replace(b"HOST", host.encode()))
        answers = read_answers(connection, 5)
    first = 201 if service == "results" else 200
    assert [answer.status for answer in answers] == [200, first, 404, 200, 200]


@services
def test_request_ids_are_words_or_not_taken(service: str, open_services: Services) -> None:
    client = getattr(open_services, service)
    for offered in ("<script>", "a" * 65, "a b", "é", '"', "a\tb"):
        answer = client.get("/nothing", headers={"X-Request-ID": offered.encode("latin-1")})
        assert answer.headers["x-request-id"] == answer.json()["request_id"] != offered
    assert client.get("/nothing", headers={"X-Request-ID": "a.b-1"}).headers["x-request-id"] == "a.b-1"


@services
@pytest.mark.parametrize(
    "name", ["Accept", "Accept-Encoding", "Range", "If-None-Match", "If-Match", "Cookie", "Expect"]
)
@pytest.mark.parametrize("value", [',;="*\\', "é", "a" * 60_000, "bytes=0-0,-1", '"' * 100, "*", "q=0;q=1,,"])
def test_headers_that_say_nothing(service: str, name: str, value: str, open_services: Services) -> None:
    answer = getattr(open_services, service).get(READ[service], headers={name: value.encode("latin-1")})
    assert answer.status_code in (200, 304)
    assert answer.status_code == 200 or name == "If-None-Match"


@services
def test_thousands_of_headers(service: str, open_services: Services) -> None:
    headers = [(f"X-{number}", "a") for number in range(5000)]
    assert getattr(open_services, service).get("/health", headers=headers).status_code == 200


@refused
@services
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "[", "127.0.0.1@evil.example", "", "0"])
def test_hosts_of_others_may_not_be_used_without_keys(service: str, host: str, open_services: Services) -> None:
    body = body_for(service)
    sent = request("POST", PUSH[service], f"Content-Length: {len(body)}", body=body)
    with connected(getattr(open_services, service)) as connection:
        connection.sendall(sent.replace(b"HOST", f"Host: {host}".encode()))
        [answer] = read_answers(connection)
    assert (answer.status, answer.problem) == (403, "foreign-site")
