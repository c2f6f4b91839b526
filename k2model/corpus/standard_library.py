"""Which modules of the running Python's standard library are read, and from where.

Left out: tests, bundled wheels, platform build data, and files that are tables rather than text
(codec maps, generated data). One module is one origin: all its text, code and docstrings alike,
falls on one side of the held-out split.
"""

import hashlib
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

LICENCE = "PSF-2.0"
MAX_MODULE_BYTES = 250_000
_SKIPPED_FOLDERS = {
    "__pycache__", "ensurepip", "lib-dynload", "idle_test", "pydoc_data", "site-packages", "dist-packages",
    "test", "tests", "encodings", "turtledemo", "lib2to3", "idlelib",
}  # fmt: skip
_SKIPPED_PREFIXES = ("_sysconfigdata", "config-", "__phello__", "__hello__", "this.py", "antigravity.py")


class Module(NamedTuple):
    name: str  # dotted
    text: str


@lru_cache(maxsize=1)
def modules() -> tuple[Module, ...]:
    """The source of every module read, by name. The order is that of the names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = (path for path in root.rglob("*.py") if _is_read(path.relative_to(root)))
    texts = {_dotted(path.relative_to(root)): _text(path) for path in paths}
    return tuple(Module(name, text) for name, text in sorted(texts.items()) if text)


def digest() -> str:
    """sha256 over all that is read here: two distributions of one Python version may differ."""
    from pydoc_data.topics import topics

    state = hashlib.sha256()
    for name, text in (*modules(), *sorted(topics.items())):
        state.update(f"{name}\0{text}\0".encode("utf-8", "surrogatepass"))
    return state.hexdigest()


def _is_read(path: Path) -> bool:
    if any(part in _SKIPPED_FOLDERS for part in path.parts[:-1]):
        return False
    return not any(part.startswith(_SKIPPED_PREFIXES) for part in path.parts)


def _text(path: Path) -> str:
    """The file's text; empty when it is too large or not UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8") if len(content) <= MAX_MODULE_BYTES else ""
    except UnicodeDecodeError:
        return ""


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
