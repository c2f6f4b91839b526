"""A month that is killed again and again, beside one that is not: both must end with the same line.

    python -m tests.continual.killed --home HOME --line demo --kills 15      # the whole month, by hand
    python -m tests.continual.killed --home HOME --line tiny --days 4        # as the tests do

HOME is that of a lifecycle. The month runs in a process of its own, with all it starts, and SIGKILL comes a moment
after it has got so far, by seeded chance, spread so that every part of it is reached; then it is run again, as a person
would. What is compared is what a line is: the bytes of every ledger entry, its champion, its inbox, and the digest of
every artifact.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from k2model.artifacts import Store
from k2model.artifacts.manifest import MANIFEST, read_manifest
from k2model.continual.ledger import FOLDER as LEDGERS
from k2model.continual.ledger import Ledger
from k2model.continual.month.home import JOURNAL, linked
from k2model.continual.month.recipe import LINES
from k2model.recipe import load_recipe
from workflows.month import FOLDER

ROOT = Path(__file__).parents[2]
TIMEOUT = 3600.0
MOMENT = 0.5  # seconds, at most, between what a month was seen to have made and its kill


@dataclass(frozen=True)
class Left:
    """What a month leaves: entries and inbox by path as bytes, artifacts' digests by name, the champion's turn."""

    entries: dict[str, bytes]
    inbox: dict[str, bytes]
    artifacts: dict[str, str]
    champion: int | None

    @staticmethod
    def of(home: Path, line: str) -> "Left":
        root = home / FOLDER / "store"
        manifests = [path for path in root.glob(f"*/*/{MANIFEST}") if not path.parts[-3].startswith("_")]
        return Left(
            _bytes(root / LEDGERS / line / "ledger"),
            _bytes(root / "_inbox" / line),
            {f"{path.parts[-3]}/{path.parts[-2]}": read_manifest(str(path.parent)).digest for path in manifests},
            Ledger.open(Store.open(root), line).state().champion,
        )


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def begun(lifecycle: Path, home: Path) -> Path:
    """A home that shares the lifecycle's artifacts and MLflow's records, and nothing of a month."""
    linked(lifecycle / "store", home / "store")
    if (tracking := lifecycle / "mlflow.db").exists():
        shutil.copy(tracking, home / "mlflow.db")
    return home


def made(home: Path) -> int:
    """How far a month has got: what it has written down, its ledger's entries and the artifacts that the lifecycle in
    `home` has not, counted."""
    kept = (f"{JOURNAL}/**/*.json", f"store/{LEDGERS}/*/ledger/*.json", f"store/*/*/{MANIFEST}")
    found = sum(1 for pattern in kept for _ in (home / FOLDER).glob(pattern))
    return max(0, found - sum(1 for _ in home.glob(f"store/*/*/{MANIFEST}")))


def lived(home: Path, line: str, days: int, until: int = sys.maxsize, moment: float = 0.0) -> bool:
    """Runs the month in `home`, killed a moment (seconds) after it has got so far; whether it came to its end before.
    Raises RuntimeError for one that failed by itself."""
    command = [sys.executable, "-m", "workflows.month", "--line", line, "--days", str(days), "--no-chain"]
    with (home / "month.log").open("ab") as log:
        month = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "K2_HOME": str(home), "TMPDIR": str(_made(home / "tmp"))},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + TIMEOUT
        while (
            (status := month.poll()) is None
            and time.monotonic() < deadline
            and (until == sys.maxsize or made(home) < until)
        ):
            time.sleep(0.05)
        try:
            status = month.wait(moment) if status is None else status
        except subprocess.TimeoutExpired:
            os.killpg(month.pid, signal.SIGKILL)
            month.wait()
            return False
    if status and not (status == 1 and days == 30):  # 1: something of the whole month did not hold, which it tells
        raise RuntimeError(f"the month in {home} ended with {status}; {home}/month.log tells why")
    return True


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def killed(lifecycle: Path, work: Path, line: str, days: int, kills: int, seed: int = 0) -> tuple[Left, Left, int]:
    """(What an undisturbed month leaves, what a killed one does, how often it was)."""
    name = load_recipe(LINES[line]).name
    calm, hit = (begun(lifecycle, work / one) for one in ("calm", "killed"))
    lived(calm, line, days)
    rng, count, between = Random(seed), 0, 2 * made(calm) // kills
    while count < kills and not lived(hit, line, days, made(hit) + rng.randint(1, between), rng.uniform(0, MOMENT)):
        count += 1
    lived(hit, line, days)
    return Left.of(calm, name), Left.of(hit, name), count


def main() -> int:
    parser = argparse.ArgumentParser("killed", description="A month that is killed beside one that is not")
    parser.add_argument("--home", type=Path, required=True, help="of a lifecycle")
    parser.add_argument("--work", type=Path, help="where both months run; beside the home by default")
    parser.add_argument("--line", choices=[*LINES], default="demo")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    work = asked.work or asked.home / "killed"
    calm, hit, count = killed(asked.home, work, asked.line, asked.days, asked.kills, asked.seed)
    same = calm == hit
    print(f"killed {count} times; {len(hit.entries)} entries, {len(hit.artifacts)} artifacts, champion {hit.champion}")
    for part in ("entries", "inbox", "artifacts", "champion"):
        print(f"{'✓' if getattr(calm, part) == getattr(hit, part) else '✗'} {part}")
    return 0 if same and count >= asked.kills else 1


if __name__ == "__main__":
    sys.exit(main())
