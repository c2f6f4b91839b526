"""`python -m infra.stack`: start, look at, use and end the stack of `$K2_HOME` (see `make help`)."""

import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from infra.stack import compose as composed
from infra.stack import config as configs
from infra.stack.config import Config, StackError
from infra.stack.control import bring_up, end, problem
from infra.stack.processes import log_file, running
from infra.stack.services import services
from k2model.cli.terminal import CommandGroup, as_json_option, show

COLUMNS = ("service", "pid", "address", "health", "log")


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """S3, PostgreSQL and MLflow on this machine, on loopback addresses."""


@main.command()
@click.option("--new-ports", is_flag=True, help="Choose other free ports; what runs is ended first, data stay.")
def up(new_ports: bool) -> None:
    """Start the servers, or those that do not run or answer, and wait until they do.

    \b
    python -m infra.stack up
    """
    folder = configs.folder()
    with configs.locked(folder), _interruptible() as check:
        if new_ports:
            end(folder)
        config = configs.load_or_choose(folder, new_ports)
        bring_up(config, check)
        file = configs.write_client_file(config)
    _tell_how_to_use(config, file)


@main.command()
@as_json_option
def status(as_json: bool) -> None:
    """What runs, where, and whether it answers. Exit status 0 when all of it does, else 1.

    \b
    python -m infra.stack status --json
    """
    config = configs.load(configs.folder())
    if config is None:
        raise StackError(f"there is no stack in {configs.folder()}: make stack-up")
    found, all_of_it = running(config.folder), services(config)
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(problem, all_of_it))
    rows = []
    for service, wrong in zip(all_of_it, problems, strict=True):
        main = found[service.name].main if service.name in found else None
        health = wrong or "healthy" if main else "not running" if wrong else "healthy, but not started by this stack"
        rows.append(
            (
                service.name,
                main.pid if main else None if as_json else "-",
                service.address,
                health,
                str(log_file(config.folder, service.name)),
            )
        )
    show(COLUMNS, rows, as_json)
    sys.exit(0 if all(row[3] == "healthy" for row in rows) else 1)


@main.command()
@click.option("--purge", is_flag=True, help="Remove all data, secrets and logs of the stack, too.")
def down(purge: bool) -> None:
    """End the servers and everything they have started. Their data stay.

    \b
    python -m infra.stack down --purge
    """
    folder = configs.folder()
    if not folder.exists():
        click.echo(f"there is no stack in {folder}")
        return
    with configs.locked(folder):
        ended = end(folder)
        click.echo(f"ended: {', '.join(ended)}" if ended else f"nothing of the stack in {folder} runs")
        if purge:
            shutil.rmtree(folder)
            click.echo(f"removed {folder}")


@main.command()
def env() -> None:
    """Print, for a shell's eval, what a client of the stack has in its environment. It has secrets: do not log it.

    \b
    eval "$(python -m infra.stack env)"
    """
    for name in configs.CLEARED:
        click.echo(f"unset {name}")
    for name, value in configs.client_environment(_usable()).items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: tuple[str, ...]) -> None:
    """Run COMMAND on the stack: with its addresses and credentials in the environment.

    \b
    python -m infra.stack run k2 status
    """
    config = _usable()
    environment = {name: value for name, value in os.environ.items() if name not in configs.CLEARED}
    environment |= configs.client_environment(config)
    click.echo(f"on the stack: store {environment['K2_STORE']} at {config.s3}, MLflow {config.mlflow}", err=True)
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        raise StackError(f"there is no program {command[0]}") from None


def _usable() -> Config:
    """The stack's configuration. Raises StackError when a server does not answer."""
    config = configs.load(configs.folder())
    wrong = {one.name: said for one in services(config) if (said := problem(one))} if config else {}
    if config is None or wrong:
        said = "; ".join(f"{name}: {what}" for name, what in wrong.items())
        raise StackError(f"the stack in {configs.folder()} does not run{f' ({said})' if said else ''}: make stack-up")
    return config


@main.command()
def ui() -> None:
    """Say where MLflow is and where its login stands; open it where there is a desktop."""
    config = _usable()
    click.echo(f"MLflow: {config.mlflow}")
    click.echo(f"login: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in {config.folder / 'env'}")
    if sys.stdout.isatty() and ("DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ):
        click.launch(config.mlflow)


@main.command()
@click.option(
    "--write", is_flag=True, help=f"Write {composed.FILE.name} anew, after a change of the settings it is made from."
)
def compose(write: bool) -> None:
    """Prepare the same servers for docker: write their secrets and ports, and say how to start them.

    \b
    python -m infra.stack compose
    """
    if write:
        composed.FILE.write_text(composed.text())
    folder = configs.folder()
    with configs.locked(folder):
        config = configs.load_or_choose(folder)
        if found := running(folder):
            raise StackError(
                f"{', '.join(found)} of this stack run without docker, on the same ports: make stack-down first"
            )
        configs.write_client_file(config)
        click.echo(composed.how_to_start(composed.write_variables(config)))


def _tell_how_to_use(config: Config, file: Path) -> None:
    click.echo(f"\nMLflow: {config.mlflow}    S3: {config.s3}    secrets: {file}")
    click.echo("make lifecycle STACK=1    make ui STACK=1    make stack-status    make stack-down")


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C, SIGTERM and SIGHUP end the block, once: whatever comes while it ends what it has begun is ignored.

    What it gives raises the end again where it was lost: Python drops what a signal raises in a callback of an import.
    """
    heard: list[int] = []

    def interrupt(number: int, _: object) -> None:
        heard.append(number)
        if len(heard) == 1:
            raise SystemExit(128 + number)

    def check() -> None:
        if heard:
            raise SystemExit(128 + heard[0])

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
