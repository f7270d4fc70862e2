"""A stand-in for a model server on 127.0.0.1: it answers as it is told to, also slowly, wrongly and not at all."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

Body = dict[str, Any]


class Answer(NamedTuple):
    """What is sent: a status, bytes, headers; `cut` closes the connection after so many bytes."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    cut: int | None = None


def said(content: str | None, finish: str = "stop", prompt: int = 10, reply: int = 3, **message: Any) -> Body:
    """A chat completion."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    usage = {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}
    return {"object": "chat.completion", "choices": [choice], "usage": usage, "system_fingerprint": "fp_stub"}


def ok(body: Body) -> Answer:
    return Answer(200, json.dumps(body).encode())


def wrong(status: int, message: str = "no", headers: dict[str, str] | None = None, **more: Any) -> Answer:
    return Answer(status, json.dumps({"error": {"message": message, **more}}).encode(), headers or {})


class Stub:
    """A running stub.

    Attributes:
        requests: the bodies that came, in order, without those of the first look.
        headers: the headers of every request, by names in small letters.
        most: most requests that were under way at once.
    """

    def __init__(self, answer: Callable[[Body], Answer], models: Body) -> None:
        self.answer, self.models = answer, models
        self.requests: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.url = ""


def is_look(body: Body) -> bool:
    """Whether this is the first look's request for one token."""
    return bool(body["messages"][-1]["content"] == "Hi")


def probed(body: Body) -> Answer | None:
    """The answer to a first look; None to any other request."""
    return ok(said("Hi", "length", 9, 1)) if is_look(body) else None


MODELS: Body = {"object": "list", "data": [{"id": "stub", "object": "model", "created": 1, "owned_by": "us"}]}


@contextmanager
def stub(answer: Callable[[Body], Answer], models: Body = MODELS, port: int = 0) -> Iterator[Stub]:
    """Serve `answer` on a port of 127.0.0.1, by default a free one, until the block ends."""
    state = Stub(answer, models)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(ok(state.models) if self.path == "/v1/models" else wrong(404))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.headers.append({name.lower(): value for name, value in self.headers.items()})
                state.seen[self.path] += 1
                if self.path == "/v1/chat/completions" and not is_look(body):
                    state.requests.append(body)
                state.now += 1
                state.most = max(state.most, state.now)
            try:
                self.reply(state.answer({**body, "path": self.path}))
            finally:
                with state.lock:
                    state.now -= 1

        def reply(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            if answer.cut is not None:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

        def handle_error(self, *args: object) -> None:
            pass  # a client that went away

    server = Server(("127.0.0.1", port), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


__all__ = ["MODELS", "Answer", "Body", "Stub", "is_look", "ok", "probed", "said", "stub", "wrong"]
