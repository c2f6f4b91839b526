"""Write what each image installs, `images/*/requirements.txt`, with the hash of every file.

    .venv/bin/python images/lock.py        # after a change of requirements.lock or pyproject.toml; some minutes

`requirements.lock` says the versions, `ROOTS` what an image is for, the installed packages what those need. The hashes
are of the files that pip picks on this kind of machine (Linux, x86-64, Python 3.11), as its index states them: another
kind of machine writes its own. torch has builds of its own for CPU and each CUDA, so it stands apart, in a comment that
`install.sh` reads.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

IMAGES = Path(__file__).resolve().parent
PROJECT = IMAGES.parent
APART = {"torch", "pycosat"}  # torch: see above; pycosat: asked for by reasoning-gym and not needed, see Makefile

#: Of the project's dependencies, what an image does without. Everything else of them is in it.
WITHOUT = {"data": {"torch", "deepspeed", "transformers"}, "train": set(), "eval": {"deepspeed", "great-expectations"}}

#: What builds the three packages that have no wheel and the project itself, and what lists an image's contents.
BUILD = ("setuptools==84.2.1", "wheel==0.48.0", "packaging==26.3")
SBOM = ("cyclonedx-bom==7.5.0",)


def project() -> dict:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def locked() -> dict[str, str]:
    """Versions by canonical name."""
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {str(canonicalize_name(name)): version for name, version in pairs}


def roots(image: str) -> list[str]:
    """The requirements an image is made from."""
    if image == "mlflow":
        return project()["optional-dependencies"]["server"]
    own = project()["optional-dependencies"]["evaluation"] if image == "eval" else []
    return [text for text in project()["dependencies"] if Requirement(text).name not in WITHOUT[image]] + own


def closure(wanted: list[str]) -> set[str]:
    """The canonical names of all that is needed, read from what is installed."""
    left, seen = [(Requirement(text), "") for text in wanted], set()
    while left:
        requirement, extra = left.pop()
        name = str(canonicalize_name(requirement.name))
        if (requirement.marker and not requirement.marker.evaluate({"extra": extra})) or name in APART:
            continue
        for one in ({""} | requirement.extras) - {e for n, e in seen if n == name}:
            seen.add((name, one))
            left += [(Requirement(text), one) for text in distribution(name).requires or ()]
    return {name for name, _ in seen}


def hashes(arguments: list[str]) -> dict[str, tuple[str, str]]:
    """Version and sha256 by canonical name, of the files that pip would install. Nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--use-pep517"]
        subprocess.run([*command, "--report", str(report), *arguments], check=True)
        rows = json.loads(report.read_text())["install"]
    return {
        str(canonicalize_name(row["metadata"]["name"])): (
            row["metadata"]["version"],
            row["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for row in rows
    }


def write(path: Path, head: str, rows: dict[str, tuple[str, str]]) -> None:
    lines = [f"{name}=={version} --hash=sha256:{digest}" for name, (version, digest) in sorted(rows.items())]
    path.write_text("\n".join([f"# {head}; written by images/lock.py", *lines]) + "\n")


def main() -> None:
    torch = next(text for text in project()["dependencies"] if text.startswith("torch=="))
    every = hashes(["--no-deps", "-r", str(PROJECT / "requirements.lock")])
    assert {name: version for name, (version, _) in every.items()} == locked()
    for image in (*WITHOUT, "mlflow"):
        rows = {name: every[name] for name in closure(roots(image))}
        apart = torch if image != "mlflow" and "torch" not in WITHOUT[image] else "nothing"
        write(IMAGES / image / "requirements.txt", f"apart: {apart}", rows)
    write(IMAGES / "build.txt", "builds what has no wheel", hashes(["--no-deps", *BUILD]))
    write(IMAGES / "sbom.txt", "lists an image's contents", hashes(list(SBOM)))


if __name__ == "__main__":
    main()
