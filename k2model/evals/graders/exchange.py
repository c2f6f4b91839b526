"""The two programs by which code is examined, each in a jail of its own: `candidate` holds a model's code, `judge` the
tests.

The judge calls the model's functions through a pipe and is answered with plain values, so that the model's code reads
no test, and can neither end the tests nor lie about them: an object that equals everything is not a plain value. What
is no plain value stays with the candidate, and its stand-in can be handed back to it or gone through.

This file is read, never imported: a jail has the standard library alone. Arguments: the role.
"""

import ast
import builtins
import json
import os
import random
import sys
import traceback
import types

LONGEST = 1 << 24  # bytes of a message
VERDICT = "verdict "


class Channel:
    """Messages to and from the other side, a line of JSON each, over what were stdin and stdout."""

    def __init__(self):
        self.reads, self.writes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        nothing = os.open("/dev/null", os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(2, 1)  # what is printed is told with the errors

    def send(self, message):
        self.writes.write(json.dumps(message).encode() + b"\n")
        self.writes.flush()

    def receive(self):
        """The next message; None where the other side has ended."""
        line = self.reads.readline(LONGEST)
        return json.loads(line) if line.endswith(b"\n") else None


class Stand:
    """In the judge's hands: something of the candidate's that is no plain value."""

    def __init__(self, number, ask):
        self.number, self.ask = number, ask

    def __iter__(self):
        return iter(self.ask({"iterate": self.number}))


def pack(value, keep):
    """A value as JSON: plain ones by content, whatever class of theirs it is; `keep` gives others a number."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    for group in (list, tuple, set, frozenset):
        if isinstance(value, group):
            return {group.__name__: [pack(one, keep) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[pack(key, keep), pack(one, keep)] for key, one in value.items()]}
    return {"kept": keep(value)}


def unpack(packed, kept):
    """What was packed; raises ValueError for what nobody packs so."""
    if packed is None or isinstance(packed, (bool, int, float, str)):
        return packed
    if not isinstance(packed, dict) or len(packed) != 1:
        raise ValueError("no packed value")
    ((kind, inside),) = packed.items()
    if kind == "bytes":
        return bytes.fromhex(inside)
    if kind == "complex":
        return complex(*inside)
    if kind in ("list", "tuple", "set", "frozenset"):
        return getattr(builtins, kind)(unpack(one, kept) for one in inside)
    if kind == "dict":
        return {unpack(key, kept): unpack(one, kept) for key, one in inside}
    if kind == "kept":
        return kept(inside)
    raise ValueError(f"no packed value: {kind}")


def run(source, name):
    """A module made of source text."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
    return module


def candidate():
    """Run the model's code, then answer calls until no more come."""
    channel = Channel()
    kept = []

    def keep(value):
        kept.append(value)
        return len(kept) - 1

    try:
        with open("/task/solution.py", encoding="utf-8", errors="surrogatepass") as file:
            module = run(file.read(), "solution")
    except BaseException as error:
        channel.send({"failed": told(error)})
        return
    channel.send({"names": [name for name, value in vars(module).items() if callable(value)]})
    while (asked := channel.receive()) is not None:
        try:
            if "iterate" in asked:
                value = list(kept[asked["iterate"]])
            else:
                arguments = unpack(asked["arguments"], kept.__getitem__)
                named = unpack(asked["named"], kept.__getitem__)
                value = getattr(module, asked["call"])(*arguments, **named)
            answer = {"value": pack(value, keep)}
        except BaseException as error:
            answer = {"raised": type(error).__name__, "text": str(error)[:500]}
        channel.send(answer)


def judge():
    """Run the tests on the candidate's functions, and say what came of them."""
    channel = Channel()
    said = os.dup(2)
    os.dup2(os.open("/dev/null", os.O_RDWR), 1)
    os.dup2(1, 2)
    os.write(said, (VERDICT + json.dumps(judged(channel))).encode() + b"\n")
    os._exit(0)


def judged(channel):
    """`passed`, and where it is false or null (the tests themselves are broken) the `reason`."""
    with open("/task/tests.json", encoding="utf-8") as file:
        given = json.load(file)
    random.seed(0)  # tests draw
    try:
        tests = types.ModuleType("tests")
        exec(compile(given["setup"], "setup", "exec"), tests.__dict__)
        code = compile(given["tests"], "tests", "exec")
        used = {node.id for node in ast.walk(ast.parse(given["tests"])) if isinstance(node, ast.Name)}
    except BaseException as error:
        return {"passed": None, "reason": told(error)}
    try:
        begun = channel.receive()
        if begun is None or "failed" in begun:
            return {"passed": False, "reason": begun["failed"] if begun else "the program ended"}
        for name in begun["names"]:
            # No name of Python's is taken from a model: its `set` or `len` would make anything equal.
            if name in used and not hasattr(builtins, name) and name not in vars(tests):
                setattr(tests, name, stand_in(channel, name))
        function = stand_in(channel, given["entry_point"])
        if given["entry_point"]:
            setattr(tests, given["entry_point"], function)
        exec(code, tests.__dict__)
        if given["check"]:
            getattr(tests, given["check"])(function)
    except BaseException as error:
        return {"passed": False, "reason": told(error, given["tests"])}
    return {"passed": True, "reason": ""}


def stand_in(channel, name):
    """A function that is the candidate's of that name."""

    def ask(message):
        channel.send(message)
        answer = channel.receive()
        if answer is None:
            raise EOFError("the program ended")
        if "raised" in answer:
            kind = getattr(builtins, answer["raised"], None)
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                kind = RuntimeError
            raise kind(answer["text"])
        return unpack(answer["value"], lambda number: Stand(number, ask))

    def back(value):
        if isinstance(value, Stand):
            return value.number
        raise TypeError(f"a {type(value).__name__} of the tests cannot be handed to a program")

    def call(*arguments, **named):
        return ask({"call": name, "arguments": pack(arguments, back), "named": pack(named, back)})

    return call


def told(error, tests=""):
    """An error in a line, and the line of the tests that it was raised on."""
    text = "".join(traceback.format_exception_only(type(error), error)[-1:]).strip()[:500]
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == "tests" and one.lineno]
    return f"{text}: {tests.splitlines()[lines[-1] - 1].strip()[:300]}" if tests and lines else text


if __name__ == "__main__":
    sys.set_int_max_str_digits(0)
    {"candidate": candidate, "judge": judge}[sys.argv[1]]()
