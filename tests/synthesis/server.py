"""A real OpenAI-compatible server on the loopback interface that misbehaves as it is told, and remembers all it saw.

It answers sums (`Compute 4-1+4=`) by working them out from the request, so nothing of the job's own answers is
needed.
"""

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}


def completion(message: object, finish: object = "stop", usage: object = USAGE) -> str:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], "usage": usage})


class Answers:
    """What the server saw and how it is to answer. `fault(number, question)` names a way to misbehave or None;
    `response(sent)` is the text of a response, where the sums are not to be answered."""

    def __init__(
        self,
        fault: Callable[[int, str], str | None] = lambda number, question: None,
        delay: float = 0.0,
        response: Callable[[dict[str, Any]], str] | None = None,
    ):
        self.fault, self.delay, self.response = fault, delay, response
        self.questions: list[str] = []
        self.answered: list[str] = []
        self.authorizations: set[str | None] = set()
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.url = ""

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers["Content-Length"]))
        sent = json.loads(content)
        question = sent["messages"][-1]["content"]
        with self.lock:
            number = len(self.questions)
            self.questions.append(question)
            self.authorizations.add(handler.headers.get("Authorization"))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        time.sleep(self.delay)
        fault = self.fault(number, question)
        with self.lock:
            self.in_flight -= 1
        if self.response and not fault:
            _send(handler, 200, self.response(sent))
            return
        if getattr(self, f"_{fault}", self._answer)(handler, question):
            with self.lock:
                self.answered.append(question)

    def _answer(self, handler: BaseHTTPRequestHandler, question: str, usage: object = USAGE) -> bool:
        message = {"role": "assistant", "content": f"Answer: {solve(question)}", "reasoning_content": "one by one"}
        return _send(handler, 200, completion(message, usage=usage))

    def _wrong_usage(self, handler: BaseHTTPRequestHandler, question: str) -> bool:
        return self._answer(handler, question, {"prompt_tokens": -5, "completion_tokens": "many"})

    def _wrong_answer(self, handler: BaseHTTPRequestHandler, question: str) -> bool:
        message = {"content": f"Answer: {solve(question) + 1}", "reasoning_content": "hm"}
        return _send(handler, 200, completion(message))

    def _too_many(self, handler: BaseHTTPRequestHandler, _: str) -> bool:
        _send(handler, 429, '{"error": "slow down"}', {"Retry-After": "0.05"})
        return False

    def _far_too_many(self, handler: BaseHTTPRequestHandler, _: str) -> bool:
        _send(handler, 429, "{}", {"Retry-After": "7200"})
        return False

    def _broken(self, handler: BaseHTTPRequestHandler, _: str) -> bool:
        _send(handler, 500, "oops")
        return False

    def _malformed(self, handler: BaseHTTPRequestHandler, _: str) -> bool:
        _send(handler, 200, '{"choices": [{"mess')
        return False

    def _refused(self, handler: BaseHTTPRequestHandler, _: str) -> bool:
        _send(handler, 400, '{"error": "not this one"}')
        return False

    def _unauthorized(self, handler: BaseHTTPRequestHandler, _: str) -> bool:
        _send(handler, 401, f'{{"error": "bad key {handler.headers.get("Authorization")}"}}')
        return False

    def _slow(self, handler: BaseHTTPRequestHandler, question: str) -> bool:
        time.sleep(1.5)
        with contextlib.suppress(OSError):
            self._answer(handler, question)
        return False

    def _cut(self, handler: BaseHTTPRequestHandler, _: str) -> bool:
        """Half an answer, then a reset."""
        handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices"')
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True
        return False


def solve(question: str) -> int:
    """A chain of one-digit sums, by hand."""
    expression = re.search(r"Compute ([\d+-]+)=", question)[1]
    return sum(int(term) for term in re.findall(r"[+-]?\d", expression))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # as many as ask at once, on a busy machine too; five are the library's


@contextlib.contextmanager
def serving(answers: Answers) -> Iterator[Answers]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body leave together

        def do_POST(self) -> None:
            with contextlib.suppress(ConnectionError):
                answers.handle(self)

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    answers.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()


def _send(handler: BaseHTTPRequestHandler, status: int, content: str, headers: dict[str, str] | None = None) -> bool:
    body = content.encode()
    handler.send_response(status)
    for name, value in {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
    return True
