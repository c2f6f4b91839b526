"""requirements.lock is complete, free of conflicts, and installs without a compiler. All of this is read from what is
installed: `make setup` takes the lock without its dependencies, so that pip itself checks none of it."""

import tomllib
from importlib.metadata import distribution
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[1]
APART = {"torch", "pycosat"}  # see Makefile


def locked() -> dict[str, str]:
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_nothing_in_the_lock_was_compiled_on_this_machine():
    """A package index takes no wheel of the platform `linux_*`: what has that tag was built from source here."""
    tags = {name: (distribution(name).read_text("WHEEL") or "").split("Tag: ")[1:] for name in locked()}
    assert all(tags.values()), [name for name, of in tags.items() if not of]
    assert not {name: of for name, of in tags.items() if any("-linux_" in tag for tag in of)}


def test_the_lock_holds_all_that_the_project_needs():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    versions = locked()
    asked = chain(project["dependencies"], *project["optional-dependencies"].values())
    wanted = [("the project", requirement) for requirement in asked]
    seen, missing = set(), []
    while wanted:
        by, text = wanted.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name in APART:
            continue
        if name not in versions or not requirement.specifier.contains(versions[name], prereleases=True):
            missing.append(f"{by} needs {requirement}, the lock has {versions.get(name)}")
            continue
        for extra in {"", *requirement.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            needs = map(Requirement, distribution(name).requires or ())
            wanted += [(name, str(r)) for r in needs if r.marker is None or r.marker.evaluate({"extra": extra})]
    assert not missing
    assert len({name for name, _ in seen}) > 100, "the walk through the requirements ended early"
