"""Task families: generator, solver and check of each kind of evaluation item, in one module a kind.

`FAMILIES` maps the name of an items file to its module, whose `check(item, answer)` decides whether
an answer is right. Names resolve on use, so that importing this package stays cheap.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType

_MODULES = {
    "arithmetic": "arithmetic",
    "spelling": "spelling",
    "knights": "knights",
    "countdown": "countdown",
    "facts_seen": "facts",
    "facts_heldout": "facts",
    "facts_chat_seen": "facts",
    "facts_chat_heldout": "facts",
    "tools": "tools",
    "code": "next_line",
    "retrieval": "retrieval",
}


class _Families(Mapping[str, ModuleType]):
    """The families by name; a module is imported when it is asked for."""

    def __getitem__(self, name: str) -> ModuleType:
        return import_module(f"{__name__}.{_MODULES[name]}")

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


FAMILIES: Mapping[str, ModuleType] = _Families()
