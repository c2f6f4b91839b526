"""Build the images and let each check itself: `make images`, with docker, podman or buildah.

    python images/build.py --base python:3.11-slim-bookworm@sha256:... [--registry REGISTRY] [data train eval mlflow]
    python images/build.py --debootstrap           # where no registry is at hand: a base of Debian's own packages

Needs Python 3.11 alone. The base is named by digest; `localhost/...` is what was built here. `--torch-args` says which
build of torch, the CPU's unless told. pip's own settings on this machine (an index, certificates) are mounted
read-only where the engine can do that (podman, buildah), so that none of them is left in an image.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMAGES = ("data", "train", "eval", "mlflow")
ENGINES = ("docker", "podman", "buildah")
PROJECT = Path(__file__).resolve().parents[1]
CPU_TORCH = "--index-url https://download.pytorch.org/whl/cpu"
DEBIAN = "localhost/k2-base:bookworm"
BY_DIGEST = re.compile(r"^(localhost/.+|.+@sha256:[0-9a-f]{64})$")


def run(*command: str, **options: Any) -> None:
    print("+", " ".join(command), flush=True)
    subprocess.run(command, check=True, **options)


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Engine:
    """docker, podman or buildah, as far as they differ."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.policy = folder / "policy.json"  # buildah wants one even where nothing is pulled
        self.policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self.isolation = ["--isolation", os.environ.get("BUILDAH_ISOLATION", "chroot")]

    def build(self, image: str, tag: str, arguments: dict[str, str]) -> None:
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        words += ["--file", f"images/{image}/Dockerfile", "--tag", tag]
        if self.name == "buildah":
            local = ["--pull-never", "--network", "host", "--signature-policy", str(self.policy), "--layers"]
            words = ["bud", *self.isolation, *local, *words]
        else:
            words = ["build", *words]
        if self.name != "docker":
            words += [word for path in pip_files() for word in ("--volume", f"{path}:{path}:ro")]
        run(self.name, *words, ".", cwd=PROJECT)

    def start(self, tag: str, *command: str) -> None:
        """Run a command in an image, as its own user and without network where the engine can do that."""
        if self.name != "buildah":
            run(self.name, "run", "--rm", "--network", "none", "--shm-size", "1g", tag, *command)
            return
        container = output("buildah", "from", "--pull-never", "--signature-policy", str(self.policy), tag)
        try:
            run("buildah", "run", *self.isolation, container, "--", *command)
        finally:
            output("buildah", "rm", container)


def answers(engine: str) -> bool:
    """Whether an engine is installed and, where it has a daemon, that runs."""
    if shutil.which(engine) is None:
        return False
    return subprocess.run([engine, "info"], capture_output=True, check=False).returncode == 0


def pip_files() -> list[Path]:
    """Settings, certificates and local folders that this machine's pip uses, to be mounted where they lie."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True).stdout
    found = [Path(one) for one in re.findall(r"^\s+(/\S+), exists: True", told, re.MULTILINE)]
    values = re.findall(r"^\s+\S+\.(?:cert|constraint|find-links|extra-index-url|index-url): (.*)$", told, re.MULTILINE)
    values += [value for name, value in os.environ.items() if name in ("PIP_CERT", "PIP_FIND_LINKS")]
    for value in " ".join(values).split():
        path = Path(value.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            # an index of folders links to files beside it
            found.append(path.parent if value.startswith("file://") else path)
    kept = sorted({path for path in found if path.exists()})
    return [path for path in kept if not any(other in path.parents for other in kept)]


def debian_base(engine: Engine, folder: Path) -> str:
    """A base of Debian's packages alone; raises CalledProcessError where debootstrap cannot have them."""
    if engine.name != "buildah":
        sys.exit("--debootstrap works with buildah; docker and podman take a base by digest: --base")
    if not output("buildah", "images", "--quiet", "--filter", f"reference={DEBIAN}"):
        packages = "python3,python3-venv,ca-certificates"
        root = folder / "base"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)]
        run(*command, stdout=subprocess.DEVNULL)
        shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
        container = output("buildah", "from", "--signature-policy", str(engine.policy), "scratch")
        output("buildah", "add", "--quiet", container, str(root), "/")
        run("buildah", "commit", "--quiet", "--signature-policy", str(engine.policy), container, DEBIAN)
        output("buildah", "rm", container)
    return DEBIAN


def revision() -> str:
    """The commit that is built, with `-dirty` where files differ from it; "" outside of git."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=PROJECT, capture_output=True, text=True
    )
    return done.stdout.strip()


def main() -> None:
    options = argparse.ArgumentParser(description="Build the project's images and let each check itself.")
    options.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(IMAGES)}; default: all")
    base = options.add_mutually_exclusive_group(required=True)
    base.add_argument("--base", help="a Debian image with Python 3.11, by digest: NAME@sha256:...")
    base.add_argument("--debootstrap", action="store_true", help=f"make {DEBIAN} of Debian's packages, with buildah")
    options.add_argument("--engine", choices=ENGINES, help="default: the first of them that answers")
    options.add_argument("--registry", default="localhost", help="in front of the images' names (localhost)")
    options.add_argument("--tag", default="dev", help="behind them (dev)")
    options.add_argument("--torch-args", default=CPU_TORCH, help='what pip is told for torch; "" is PyPI\'s CUDA build')
    options.add_argument("--no-check", action="store_true", help="do not run the images' self-tests")
    options.add_argument("--lifecycle", action="store_true", help="then run the smoke lifecycle in the train image")
    given = options.parse_args()
    wanted = given.images or list(IMAGES)
    if unknown := set(wanted) - set(IMAGES):
        options.error(f"no image {', '.join(sorted(unknown))}; there are {', '.join(IMAGES)}")
    if given.base and not BY_DIGEST.match(given.base):
        options.error(
            f"--base {given.base} is not by digest: expected NAME@sha256:<64 hex digits>, see images/README.md"
        )
    engine_name = given.engine or next((name for name in ENGINES if answers(name)), None)
    if engine_name is None:
        options.error(f"none of {', '.join(ENGINES)} answers (Debian: apt install buildah debootstrap)")
    if given.debootstrap and shutil.which("debootstrap") is None:
        options.error("debootstrap is not installed (Debian: apt install debootstrap)")
    with tempfile.TemporaryDirectory(prefix="k2-images-") as folder:
        engine = Engine(engine_name, Path(folder))
        of = debian_base(engine, Path(folder)) if given.debootstrap else given.base
        for image in wanted:
            arguments = {"BASE": of, "REVISION": revision()}
            if image in ("train", "eval"):
                arguments["TORCH_ARGS"] = given.torch_args
            tag = f"{given.registry}/k2-{image}:{given.tag}"
            engine.build(image, tag, arguments)
            if not given.no_check:
                engine.start(tag, "python", "/opt/k2/selftest.py", image)
        if given.lifecycle:
            where = "import workflows.lifecycle as w; print(w.__file__)"
            script = f"K2_RECIPE=smoke pyflyte run \"$(python -c '{where}')\" full_lifecycle"
            engine.start(f"{given.registry}/k2-train:{given.tag}", "sh", "-c", script)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"images/build.py: '{' '.join(map(str, error.cmd))}' ended with {error.returncode}")
