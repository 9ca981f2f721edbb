"""The command line. Each command reads its configuration, imports the rooms it needs, and hands over to them.

Exit codes: 0 done; 1 the command failed; 2 wrong usage or configuration (click's); 3 the database cannot be reached.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dwctl import __version__, standard_streams

if TYPE_CHECKING:
    from dwctl.config import Config, Explained
    from dwctl.sealing import Sealer
    from dwctl.store import Store

Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """Ends the program with one line on the standard error."""

    exit_code = 1


class WrongConfiguration(Failure):
    exit_code = 2


class NoDatabase(Failure):
    exit_code = 3


def _options(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


which_data = _options(
    click.option("-f", "--config", "file", type=click.Path(), help="Configuration file.  [default: dwctl.yaml, if it is there]"),
    click.option("--data-dir", type=click.Path(file_okay=False), help="Folder of the server's data.  [default: dwctl-data]"),
    click.option("--database-url", metavar="URL", help="PostgreSQL instead of SQLite: postgres://user:password@host/name"),
)


@contextmanager
def _failures() -> Iterator[None]:
    """What may fail in an operator's hands becomes one line and an exit code."""
    from dwctl.errors import ConfigurationError, GatewayError

    try:
        yield
    except ConfigurationError as error:
        raise WrongConfiguration(str(error)) from error
    except GatewayError as error:
        raise Failure(error.message) from error
    except OSError as error:
        raise Failure(str(error)) from error


@contextmanager
def _store_failures() -> Iterator[None]:
    """As `_failures`, for commands that open the database."""
    from dwctl.sealing import SealingError
    from dwctl.store import SchemaTooNew, StoreUnavailable

    with _failures():
        try:
            yield
        except StoreUnavailable as error:
            raise NoDatabase(f"the database cannot be reached: {error}") from error
        except (SchemaTooNew, SealingError) as error:
            raise Failure(str(error)) from error


def _load(file: str | None, overrides: Mapping[str, Any]) -> "Config":
    return _explain(file, overrides).config


def _explain(file: str | None, overrides: Mapping[str, Any]) -> "Explained":
    from dwctl import config

    with _failures():
        return config.explain(config.find(file, os.environ), os.environ, overrides)


class Program(click.Group):
    """Lists the commands in the order in which they are met, not by alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Program, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", message="dwctl %(version)s")
@click.pass_context
def program(ctx: click.Context) -> None:
    """An LLM control layer: one server between your applications and your model providers.

    It checks API keys, forwards requests, streams answers back, and records and charges every request exactly.

    \b
    Try it now, without a provider:   dwctl serve --demo
    Set it up from a file:            dwctl apply setup.yaml
    Run it:                           dwctl serve        (also without a command)

    Every setting can stand in dwctl.yaml, in a variable (DWCTL_PORT) or in a flag (--port); the later wins.
    `dwctl COMMAND --help` tells more about each command.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(serve)


@program.command()
@which_data
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1, this machine only]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 3001]")
@click.option("--admin-email", metavar="EMAIL", help="The first administrator.  [default: admin@localhost]")
@click.option("--admin-password", metavar="TEXT", help="Their first password.  [default: one is made and printed once]")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: info]")
@click.option("--log-format", type=click.Choice(["console", "json"]), help="Lines for people or for machines.  [default: console]")
@click.option("--no-copy", is_flag=True, help="Migrate an older database without copying its file first.")
@click.option("--demo", is_flag=True, help="Serve a simulated provider with models, prices and a key, so that a first request works.")
def serve(
    file: str | None = None,
    data_dir: str | None = None,
    database_url: str | None = None,
    host: str | None = None,
    port: int | None = None,
    admin_email: str | None = None,
    admin_password: str | None = None,
    log_level: str | None = None,
    log_format: str | None = None,
    no_copy: bool = False,
    demo: bool = False,
) -> None:
    """Run the server.

    It prints its addresses, and at the first start the first administrator's password. Ctrl-C or SIGTERM lets running
    requests end first; a second one ends at once. If the database is down for 30 seconds at start, it exits with 3.
    """
    overrides = {
        "data_dir": data_dir,
        "database.url": database_url,
        "host": host,
        "port": port,
        "admin_email": admin_email,
        "admin_password": admin_password,
        "log.level": log_level,
        "log.format": log_format,
    }
    explained = _explain(file, overrides)
    from dwctl import server

    with _store_failures():
        sys.exit(server.run(explained.config, origins=explained.origins, demo=demo, copy=not no_copy))


@program.command()
@which_data
@click.argument("document", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def apply(document: Path, file: str | None, data_dir: str | None, database_url: str | None) -> None:
    """Set up endpoints, models, prices and keys from a file.

    Endpoints, models, groups, users, keys, prices and grants become what FILE says; what it does not name stays. Applying
    the same file again changes nothing. A running server picks the changes up within a second. The secret of a key that
    had to be made is printed, once, and so is where all this is. Without a database one is made.
    """
    config = _load(file, {"data_dir": data_dir, "database.url": database_url})
    from dwctl.operations.apply import Report, apply
    from dwctl.store.store import database_name, database_path

    async def work() -> Report:
        async with _Parts(config) as parts:
            return await apply(parts, document)

    url, folder = config.database.url, config.data_dir
    with _store_failures():
        path = database_path(url, folder)
        new = path is not None and not path.exists()
        report = asyncio.run(work())
    # Secrets first: a reader that leaves early has those that are told only once.
    secrets = [f"key {key.name!r} of {key.user}: {key.secret}" for key in report.new_keys]
    place = f"{'A new database was made' if new else 'Applied to the database'}: {database_name(url, folder)}"
    try:
        standard_streams.say("\n".join([*secrets, place, *report.lines()]))
    except OSError as error:
        lost = ", ".join(f"{key.name!r} of {key.user}" for key in report.new_keys)
        remedy = f". The secrets of new keys are lost ({lost}): rotate these keys, or delete them and apply again" if lost else ""
        raise Failure(f"the file was applied, but the output could not be written: {error.strerror}{remedy}") from error


class _Parts:
    """The database and the sealer, opened for one command and closed after it."""

    store: "Store"
    sealer: "Sealer"

    def __init__(self, config: "Config") -> None:
        self.config = config

    async def __aenter__(self) -> "_Parts":
        from dwctl.config import secret_key
        from dwctl.store import Store
        from dwctl.store.sealer import open_sealer

        key = secret_key(self.config)
        self.store = await Store.open(self.config.database.url, self.config.data_dir, direct_url=self.config.database.direct_url)
        try:
            self.sealer = await open_sealer(self.store, self.config.data_dir, key)
        except BaseException:
            await self.store.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()


@program.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on.  [default: a free one]")
@click.option("--api-key", metavar="TEXT", help="Key that requests must bring.  [default: none is asked for]")
@click.option(
    "--ledger", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write a JSON line here for each request served."
)
@click.option("--latency", type=click.FloatRange(0), default=0.0, help="Milliseconds until an answer begins.")
@click.option("--token-rate", type=click.FloatRange(0), default=0.0, help="Tokens a second; 0 for no limit.")
def simulate(host: str, port: int, api_key: str | None, ledger: Path | None, latency: float, token_rate: float) -> None:
    """Run a simulated provider, for demos and load tests.

    It speaks OpenAI's chat, Responses, completions, embeddings and models, Anthropic's Messages and Ollama's API. Text and
    usage follow from the request alone; names of models choose latency, length, thinking, calls of tools and faults, as the
    documentation lists ("The simulated provider"). Its base URL is printed; GET /_served tells what it served, GET
    /_requests the last requests as they arrived.
    """
    from dwctl import simulator

    with _failures():
        simulator.run(host, port, api_key=api_key, ledger=ledger, latency=latency, token_rate=token_rate, announce=click.echo)


@program.group()
def admin() -> None:
    """Repair access to the server."""


@admin.command("reset-password")
@which_data
@click.option("--email", help="Whose password.  [default: admin_email of the configuration]")
def reset_password(email: str | None, file: str | None, data_dir: str | None, database_url: str | None) -> None:
    """Give an account a new password and print it.

    The account's sessions end, and it is asked to change the password at the next sign-in. The server may be running.
    """
    config = _load(file, {"data_dir": data_dir, "database.url": database_url})
    from dwctl.operations.sign_in import reset_password
    from dwctl.store import Store
    from dwctl.store.store import database_path

    address = email or config.admin_email

    async def work() -> str:
        path = database_path(config.database.url, config.data_dir)
        if path is not None and not path.exists():
            raise Failure(f"there is no database at {path.absolute()}: name the server's with --config, --data-dir or --database-url")
        store = await Store.open(config.database.url, config.data_dir, direct_url=config.database.direct_url)
        try:
            return await reset_password(store, address, config)
        except LookupError as error:
            raise Failure(f"no account has the address {address}") from error
        finally:
            await store.close()

    with _store_failures():
        password = asyncio.run(work())
    click.echo(f"The password of {address} is now {password}")


@program.command("check-config")
@which_data
@click.option("--show", is_flag=True, help="Also print every value and where it comes from, secrets hidden.")
def check_config(file: str | None, data_dir: str | None, database_url: str | None, show: bool) -> None:
    """Check the configuration without starting anything.

    A wrong key is named with its file, its line and the nearest right key; the exit code is 2 then.
    """
    from dwctl import config
    from dwctl.store.addresses import check_urls
    from dwctl.store.store import database_path

    with _store_failures():
        found = config.find(file, os.environ)
        explained = config.explain(found, os.environ, {"data_dir": data_dir, "database.url": database_url})
        config.secret_key(explained.config)
        config.tls_context(explained.config)
        config.check_data_dir(explained.config)
        database = explained.config.database
        if database.url is not None and database_path(database.url, explained.config.data_dir) is None:
            check_urls(database.url, database.direct_url)
    if show:
        rows = list(explained.lines())
        width = max(len(path) for path, _, _ in rows)
        for path, value, origin in rows:
            click.echo(f"{path:<{width}}  {value}  ({origin})")
    click.echo(f"The configuration is right ({found if found else 'no file, defaults'}).")


def _passphrase(file: Path | None, *, confirm: bool) -> str:
    """From the file's first line, else ``DWCTL_PASSPHRASE``, else asked for on the terminal."""
    try:
        given = file.read_text("utf-8").partition("\n")[0] if file is not None else os.environ.get("DWCTL_PASSPHRASE", "")
        given.encode()
    except UnicodeError:
        raise click.UsageError("The passphrase is not UTF-8 text.") from None
    if given:
        return given
    if not sys.stdin.isatty():
        raise click.UsageError("A passphrase is needed: --passphrase-file FILE, or the variable DWCTL_PASSPHRASE.")
    return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm))


def _end_in_order() -> None:
    """On SIGTERM, too, what was begun is undone and nothing is left behind."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the passphrase.  [default: DWCTL_PASSPHRASE, else it is asked for]",
)


@program.command()
@which_data
@passphrase_file
@click.argument("target", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
def backup(target: Path, file: str | None, data_dir: str | None, database_url: str | None, passphrase_file: Path | None) -> None:
    """Save the server's data to a file.

    FILE gets the database, the journal and the sealing key; the server may be running. The sealing key opens stored
    provider credentials, so it is encrypted under a passphrase, which restoring needs. On PostgreSQL the database itself
    is saved with pg_dump: the line to run is printed.
    """
    config = _load(file, {"data_dir": data_dir, "database.url": database_url})
    from dwctl.config import secret_key
    from dwctl.store.backup import BackupError, backup

    phrase = _passphrase(passphrase_file, confirm=True)
    _end_in_order()
    with _store_failures():
        try:
            notes = backup(config.database.url, config.data_dir, target, phrase, secret_key=secret_key(config))
        except BackupError as error:
            raise Failure(str(error)) from error
    click.echo("\n".join([f"Wrote {target} ({target.stat().st_size:,} bytes).", *notes]))


@program.command()
@which_data
@passphrase_file
@click.option("--replace", is_flag=True, help="Replace what the data folder holds of dwctl's. Without it a folder in use is refused.")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def restore(
    source: Path, file: str | None, data_dir: str | None, database_url: str | None, passphrase_file: Path | None, replace: bool
) -> None:
    """Bring back what `backup` saved, into an empty data folder.

    The database goes where the configuration has it. With --replace, files that are not dwctl's stay in the folder.
    Requests that the backup's journal holds and its database did not yet are added at the next start, each once.
    """
    config = _load(file, {"data_dir": data_dir, "database.url": database_url})
    from dwctl.store.backup import BackupError, restore

    phrase = _passphrase(passphrase_file, confirm=False)
    _end_in_order()
    with _store_failures():
        try:
            notes = restore(source, config.data_dir, phrase, url=config.database.url, replace=replace)
        except BackupError as error:
            raise Failure(str(error)) from error
    click.echo("\n".join([f"Restored {source} into {config.data_dir}.", *notes]))


@program.command()
def version() -> None:
    """Print the version."""
    kind = "one-file program" if getattr(sys, "frozen", False) else "from source"
    click.echo(f"dwctl {__version__} ({kind}, Python {sys.version.split()[0]})")


def main() -> None:
    """Runs the command line and exits."""
    # What a start makes stays: looking through it after every few hundred objects would find nothing. A server serves with this, too.
    gc.set_threshold(50_000, 50, 50)
    try:
        program.main(prog_name="dwctl")
    except OSError as error:
        # Of printing: what else may fail has become a line and an exit code by now.
        standard_streams.discard_output()
        print(f"Error: the output could not be written: {error.strerror}", file=sys.stderr)
        sys.exit(1)
