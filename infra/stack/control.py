"""Starting and ending the servers together: what runs and answers is left alone, what does not is mended."""

import contextlib
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from infra.stack.config import Config, StackError, load
from infra.stack.processes import check_ports, last_lines, log_file, running, start, stop, wait
from infra.stack.services import Service, remove_sockets, services

#: PostgreSQL takes SIGTERM as a wish to wait until all clients have gone, and SIGINT as one to end their connections.
ENDS_BY = {"mlflow": signal.SIGTERM, "seaweedfs": signal.SIGTERM, "postgres": signal.SIGINT}


def bring_up(config: Config, check: Callable[[], None]) -> None:
    """Every server runs and answers, or StackError is raised and those that this call started are ended.

    check: raises what is to end the start.
    """
    folder = config.folder
    (folder / "logs").mkdir(mode=0o700, exist_ok=True)
    postgres, seaweedfs, mlflow = services(config)
    started: list[Service] = []
    try:
        for batch in ((postgres, seaweedfs), (mlflow,)):
            for service in batch:
                check()
                _ensure(service, folder, started)
            for service in batch:
                _await(service, folder, check)
        check()
    except BaseException:
        for service in reversed(started):
            stop(running(folder).get(service.name), ENDS_BY[service.name])
        raise


def _ensure(service: Service, folder: Path, started: list[Service]) -> None:
    """Starts a server unless it runs and answers; what is left of one that does not is ended first."""
    found = running(folder).get(service.name)
    if found and found.main:
        if wait(3, lambda: problem(service) is None):
            click.echo(f"{service.name}: runs already, {service.address}")
            return
        said = f"runs, but does not answer ({problem(service)}): is started again"
    else:
        said = "has died and left processes: is started again" if found else "is started"
    stop(found, ENDS_BY[service.name])
    own = folder / service.name
    own.mkdir(mode=0o700, exist_ok=True)
    check_ports(service.name, service.ports)
    service.prepare()
    click.echo(f"{service.name}: {said}, {service.address}")
    started.append(service)
    start(service.name, service.command(), service.environment, folder, service.user)


def _await(service: Service, folder: Path, check: Callable[[], None]) -> None:
    """Raises StackError when a server has ended, or does not answer in its time."""
    state: dict[str, str | None] = {}

    def decided() -> bool:
        check()
        with contextlib.suppress(Exception):
            service.finish()
        state["problem"] = problem(service)
        found = running(folder).get(service.name)
        state["ended"] = None if found and found.main else "it has ended"
        return state["problem"] is None or state["ended"] is not None

    wait(service.seconds, decided)
    if state["problem"]:
        log = log_file(folder, service.name)
        raise StackError(
            f"{service.name} does not work: {state['ended'] or f'no answer within {service.seconds:.0f} s'} "
            f"({state['problem']}). The end of {log}:\n{last_lines(log)}"
        )


def problem(service: Service) -> str | None:
    """What is wrong with a server, in a line; None when it answers as it should."""
    try:
        service.check()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return None


def end(folder: Path) -> list[str]:
    """Ends what runs of a stack, MLflow first since it uses the others. Gives the names of the servers."""
    found = running(folder)
    stop(found.get("mlflow"))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: stop(found.get(name), ENDS_BY[name]), ("seaweedfs", "postgres")))
    with contextlib.suppress(StackError):  # a damaged file is no reason to leave anything running
        if config := load(folder):
            remove_sockets(config.seaweedfs_ports)
    return [name for name in ("mlflow", "seaweedfs", "postgres") if name in found]
