"""A real OpenAI-compatible server on the loopback interface, before a real model: what vLLM answers, as far as it is
used. It can be told to misbehave, and remembers what it was sent."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from tokenizers import Tokenizer

from k2model.documents.markup import BOS, THINK, THINK_END
from k2model.evals.backend import Finish, Generation, Prompt, Sampling
from k2model.evals.backends import OwnModel
from k2model.recipe.evaluation import Mode


class Served:
    """`called`: the name it answers in. `echo`: whether it tells likelihoods. `broken`: how many requests fail first.
    `parser`: whether thinking comes in a field of its own, as from vLLM's reasoning parsers."""

    def __init__(self, own: OwnModel, called: str = "tiny", echo: bool = True, broken: int = 0, parser: bool = True):
        self.own, self.called, self.echo, self.broken, self.parser = own, called, echo, broken, parser
        self.sent: list[dict[str, Any]] = []
        self.url = ""
        self.lock = threading.Lock()

    def answer(self, path: str, sent: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:  # one request at a time: the model is not for several threads
            self.sent.append(sent | {"path": path})
            if self.broken > 0:
                self.broken -= 1
                return 500, {"error": "not now"}
            choice, prompt_tokens, tokens = self._chat(sent) if path == "/v1/chat/completions" else self._complete(sent)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
        return 200, {"model": self.called, "choices": [choice], "usage": usage}

    def _written(self, prompt: Prompt, sent: dict[str, Any]) -> Generation:
        sampling = Sampling(
            sent["max_tokens"], sent["temperature"], sent["top_p"], sent.get("seed", 0), tuple(sent.get("stop", ()))
        )
        ((_, said),) = self.own.generate([(prompt, sampling)])
        return said

    def _chat(self, sent: dict[str, Any]) -> tuple[dict[str, Any], int, int]:
        prompt = Prompt(Mode(sent["chat_template_kwargs"]["reasoning_effort"]), tuple(sent["messages"]))
        said = self._written(prompt, sent)
        message: dict[str, Any] = {"role": "assistant", "content": said.text}
        if self.parser:
            message = {"role": "assistant", "content": said.answer, "reasoning_content": said.trace}
        return {"message": message, "finish_reason": _reason(said)}, self.own.tokens(prompt), said.tokens

    def _complete(self, sent: dict[str, Any]) -> tuple[dict[str, Any], int, int]:
        text = sent["prompt"]
        if sent.get("echo"):
            return self._echo(text)
        mode, body = Mode.COMPLETION, text
        for tags, form in ((THINK + THINK_END, Mode.DIRECT), (THINK, Mode.THINK)):
            if text.endswith(tags):
                mode, body = form, text.removesuffix(tags)
                break
        prompt = Prompt.of(body, mode)
        said = self._written(prompt, sent | {"top_p": sent.get("top_p", 1.0)})
        return {"text": said.text, "finish_reason": _reason(said)}, self.own.tokens(prompt), said.tokens

    def _echo(self, text: str) -> tuple[dict[str, Any], int, int]:
        own = self.own
        found = Tokenizer.from_str(own.tokenizer._own.to_str())  # finds special tokens in a text, as servers do
        ids = [own.tokenizer.bos, *found.encode(text, add_special_tokens=False).ids]
        with torch.no_grad():
            log_TV = own.model.head(own.model.hidden(torch.tensor([ids])))[0].float().log_softmax(-1)
        names = [BOS, *(own.tokenizer.decode([one]) for one in ids[1:])]
        nats: list[float | None] = [None, *(float(log_TV[place, one]) for place, one in enumerate(ids[1:]))]
        best = [None, *({"best": float(log_TV[place].max())} for place in range(len(ids) - 1))]
        logprobs = {"tokens": [*names, "x"], "token_logprobs": [*nats, -1.0], "top_logprobs": [*best, {"x": -1.0}]}
        return {"text": text + "x", "logprobs": logprobs if self.echo else None, "finish_reason": "length"}, len(ids), 1

    def models(self) -> dict[str, Any]:
        return {"data": [{"id": "tiny", "max_model_len": self.own.max_length}]}


def _reason(said: Generation) -> str:
    return "stop" if said.finish is Finish.END else "length"


@contextlib.contextmanager
def serving(served: Served) -> Iterator[Served]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*served.answer(self.path, sent))

        def do_GET(self) -> None:
            self._send(200, served.models())

        def _send(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
