"""``python -m tests.crash --kills 250``: the crash runs, from source and from the binary, on each database."""

import asyncio
import sys
import tempfile
from pathlib import Path

import click

from tests.appliance import FROM_SOURCE, ROOT
from tests.conftest import PostgresServer, postgres_programs
from tests.crash.run import SERVING_AGAIN_SECONDS, crash

BINARY = ROOT / "dist" / "dwctl"


@click.command()
@click.option("--kills", default=250, show_default=True, help="Kills in each run.")
@click.option("--program", help="What to kill: source, or a path as dist/dwctl. [default: source, then dist/dwctl]")
@click.option("--database", type=click.Choice(["sqlite", "postgresql", "both"]), default="both", show_default=True)
@click.option("--seed", type=int, help="Repeat a run's choices (not its timing).")
def main(kills: int, program: str | None, database: str, seed: int | None) -> None:
    """Kill dwctl under load and check its books. The exit status is 1 if they are wrong, or if it takes too long to serve again."""
    programs = [_words(name) for name in ([program] if program else ["source", str(BINARY)])]
    kinds = ["sqlite", "postgresql"] if database == "both" else [database]
    server = _postgres() if "postgresql" in kinds else None
    late = False
    try:
        for number, words in enumerate(programs):
            for kind in kinds:
                print(f"{' '.join(words)}:", end=" ", flush=True)
                url = None
                if server is not None and kind == "postgresql":
                    server.execute(f"CREATE DATABASE run{number}")
                    url = server.url(f"run{number}")
                with tempfile.TemporaryDirectory(prefix="dwctl-crash-", ignore_cleanup_errors=True) as directory:
                    report = asyncio.run(crash(Path(directory) / "run", kills=kills, database_url=url, program=words, seed=seed))
                late = late or report.serving_again() > SERVING_AGAIN_SECONDS
    finally:
        if server is not None:
            server.remove()
    if late:
        sys.exit(f"serving again took more than {SERVING_AGAIN_SECONDS} s")


def _words(program: str) -> tuple[str, ...]:
    if program == "source":
        return FROM_SOURCE
    path = Path(program).resolve()
    if not path.exists():
        sys.exit(f"{path} is missing (make binary)")
    return (str(path),)


def _postgres() -> PostgresServer:
    programs = postgres_programs()
    if programs is None:
        sys.exit("PostgreSQL is not installed (apt-get install postgresql); use --database sqlite")
    server = PostgresServer(programs)
    server.start()
    return server


if __name__ == "__main__":
    main()
