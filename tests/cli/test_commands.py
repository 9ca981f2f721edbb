"""The commands as an operator meets them: their words, their exit codes, and what they leave behind."""

import json
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from dwctl import __version__
from dwctl.server import DATABASE_WAIT_SECONDS
from tests.appliance import ADMIN_EMAIL, FROM_SOURCE, KEY, Appliance, environment, until
from tests.migrated import put_database

COMMANDS = ["serve", "apply", "simulate", "admin", "check-config", "backup", "restore", "version"]


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FROM_SOURCE, *arguments], cwd=folder, env=environment(**settings), capture_output=True, text=True, timeout=60)


def test_help_names_every_command_and_the_first_steps(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command}\s+\w", done.stdout, re.MULTILINE), command
    assert "dwctl serve --demo" in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2]


@pytest.mark.parametrize("command", [*COMMANDS, "admin reset-password"])
def test_every_command_and_option_explains_itself(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, *command.split(), "-h")
    assert done.returncode == 0
    options = re.findall(r"^  (-[\w-]+.*)$", done.stdout, re.MULTILINE)
    assert options
    described = re.sub(r"\n {20,}", "  ", done.stdout)
    for line in re.findall(r"^  (-.*)$", described, re.MULTILINE):
        assert re.search(r"\S {2,}\S", line), f"{line!r} has no description"


def test_version(tmp_path: Path) -> None:
    assert run(tmp_path, "version").stdout.startswith(f"dwctl {__version__} (from source, Python 3.")
    assert run(tmp_path, "--version").stdout == f"dwctl {__version__}\n"


def test_wrong_usage_ends_with_2_and_does_not_touch_the_disk(tmp_path: Path) -> None:
    for arguments in (
        ["serv"],
        ["serve", "--prot", "1"],
        ["apply"],
        ["apply", "none.yaml"],
        ["serve", "--port", "x"],
        ["serve", "--port", "70000"],
        ["simulate", "--port", "70000"],
    ):
        done = run(tmp_path, *arguments)
        assert done.returncode == 2, arguments
        assert "Error: " in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_check_config_says_where_each_value_comes_from(tmp_path: Path) -> None:
    (tmp_path / "dwctl.yaml").write_text("port: 4000\nadmin_password: canary canary\n")
    done = run(tmp_path, "check-config", "--show", "--data-dir", "here", DWCTL_HOST="10.0.0.1")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["port", "4000", "(dwctl.yaml:1)"] in lines
    assert ["host", "10.0.0.1", "(env", "DWCTL_HOST)"] in lines
    assert ["data_dir", "here", "(flag", "--data-dir)"] in lines
    assert "canary" not in done.stdout
    assert done.stdout.endswith("The configuration is right (dwctl.yaml).\n")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"DWCTL_SECRET_KEY": "short"}, "Error: env DWCTL_SECRET_KEY: `secret_key` must have at least 16 characters"),
        ({"DATABASE_URL": "postgres://h/d"}, "secret_key (or secret_key_file) is needed"),
        ({"DWCTL_TLS__CERTIFICATE": "/dev/null", "DWCTL_TLS__KEY": "/dev/null"}, "`tls.certificate` names /dev/null"),
        ({"DWCTL_DATA_DIR": "/etc/hostname"}, "`data_dir` names /etc/hostname, which cannot be used: Not a directory"),
        ({"DWCTL_DATA_DIR": "/proc/x"}, "`data_dir` names /proc/x, which cannot be used: "),
    ],
)
def test_check_config_looks_at_keys_certificates_and_the_data_folder(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    done = run(tmp_path, "check-config", **settings)
    assert (done.returncode, done.stdout, said in done.stderr) == (2, "", True), done.stderr


@pytest.mark.parametrize(
    "url", ["postgres://u:canary@127.0.0.1:badport/db", "postgres://u:canary/pw@127.0.0.1/db", "postgres://u:canary@h:99999/db"]
)
def test_a_database_url_that_is_none_stops_check_and_serve_alike(tmp_path: Path, url: str) -> None:
    (tmp_path / "dwctl.yaml").write_text("secret_key: some text for sealing\n")
    directly = {"DWCTL_DATABASE__DIRECT_URL": url}
    for key, arguments, settings in (
        ("database.url", ["--database-url", url], {}),
        ("database.direct_url", ["--database-url", "postgres://u:canary@127.0.0.1/db"], directly),
    ):
        for command in (["check-config"], ["serve", "--port", "0"]):
            done = run(tmp_path, *command, *arguments, **settings)
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            assert done.stderr.startswith(f"Error: {key} is not a URL of PostgreSQL")
            assert "canary" not in done.stderr
    done = run(tmp_path, "check-config", "--database-url", "postgres://u:canary%2Fpw@127.0.0.1:9/db")
    assert done.returncode == 0, done.stderr


def test_a_wrong_key_stops_check_and_serve_alike(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("host: 127.0.0.1\nprot: 4000\n")
    for arguments in (["check-config", "-f", "other.yaml"], ["serve", "--config", "other.yaml"], ["serve"]):
        done = run(tmp_path, *arguments, **({"DWCTL_CONFIG": "other.yaml"} if len(arguments) == 1 else {}))
        assert done.returncode == 2
        assert done.stderr == "Error: other.yaml:2: unknown key `prot`; the nearest key is `port`\n"
    assert not (tmp_path / "dwctl-data").exists()


def test_serve_says_what_is_in_its_way(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run(tmp_path, "serve", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr
    for command, status, said in (
        ("serve", 2, r"Error: flag --host: `host` 'a\.\.b' is neither an IP address nor the name of a host"),
        ("simulate", 1, r"Error: cannot listen on a\.\.b.*: this is no host name"),
    ):
        done = run(tmp_path, command, "--host", "a..b", "--port", "0")
        assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
        assert re.match(said, done.stderr)


@pytest.mark.long
def test_serve_waits_for_the_database_and_exits_with_3(tmp_path: Path) -> None:
    done = run(
        tmp_path, "serve", "--port", "0", "--database-url", "postgres://nobody@127.0.0.1:9/none", DWCTL_SECRET_KEY="some text for sealing"
    )
    assert done.returncode == 3
    assert "database" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_says_that_it_waits_for_the_database_and_stops_when_it_is_told_to(tmp_path: Path) -> None:
    command = [*FROM_SOURCE, "serve", "--port", "0", "--database-url", "postgres://nobody@127.0.0.1:9/none", "--log-format", "json"]
    settings = environment(DWCTL_SECRET_KEY="some text for sealing")
    with subprocess.Popen(command, cwd=tmp_path, env=settings, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["event"] == "waiting_for_database"
        process.terminate()
        assert process.wait(10) == 0
        assert json.loads(process.stderr.readline())["event"] == "stopped"


def test_serve_does_not_wait_for_what_is_no_database(tmp_path: Path) -> None:
    data = tmp_path / "dwctl-data"
    data.mkdir()
    (data / "dwctl.db").write_bytes(b"no database" * 1000)
    started = time.monotonic()
    done = run(tmp_path, "serve", "--port", "0")
    assert time.monotonic() - started < DATABASE_WAIT_SECONDS / 2
    assert (done.returncode, done.stderr) == (3, "dwctl: the database cannot be used: SQLite: file is not a database\n")


def test_other_commands_do_not_wait_for_the_database(tmp_path: Path) -> None:
    (tmp_path / "setup.yaml").write_text("groups: [{name: a}]\n")
    settings = {"DATABASE_URL": "postgres://nobody@127.0.0.1:9/none", "DWCTL_SECRET_KEY": "some text for sealing"}
    for arguments in (["apply", "setup.yaml"], ["admin", "reset-password"]):
        done = run(tmp_path, *arguments, **settings)
        assert done.returncode == 3, done.stderr
        assert done.stderr.startswith("Error: the database cannot be reached")
        assert done.stderr.count("\n") == 1


SETUP = f"""
endpoints: [{{name: up, url: "http://127.0.0.1:9/v1"}}]
users: [{{email: dev@example.com}}]
models: [{{alias: m, endpoint: up, model_name: x, groups: [Everyone]}}]
keys:
  - {{user: dev@example.com, name: known, secret: {KEY}}}
  - {{user: dev@example.com, name: made}}
grants: [{{user: dev@example.com, amount: "12.000000001", source_id: first}}]
"""


def test_secrets_are_told_also_where_the_output_lacks_a_letter(tmp_path: Path) -> None:
    (tmp_path / "setup.yaml").write_text(SETUP.replace("name: made", "name: schlüssel"), "utf-8")
    done = run(tmp_path, "apply", str(tmp_path / "setup.yaml"), PYTHONIOENCODING="ascii")
    assert re.search(r"^key 'schl\\xfcssel' of dev@example.com: sk-\S+$", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_apply_then_apply_again_then_serve(tmp_path: Path) -> None:
    (tmp_path / "setup.yaml").write_text(SETUP)
    appliance = Appliance(tmp_path)
    first = appliance.command("apply", str(tmp_path / "setup.yaml"))
    secret = re.search(r"^key 'made' of dev@example.com: (sk-\S+)$", first.stdout, re.MULTILINE)
    assert secret, first.stdout
    assert first.stdout.startswith("key 'made'"), "what is told only once comes first"
    assert KEY not in first.stdout + first.stderr
    assert f"A new database was made: {appliance.data_dir / 'dwctl.db'}\n" in first.stdout
    again = appliance.command("apply", str(tmp_path / "setup.yaml"))
    assert f"Applied to the database: {appliance.data_dir / 'dwctl.db'}\n" in again.stdout
    assert "Nothing had to be changed." in again.stdout
    assert "sk-" not in again.stdout
    try:
        appliance.start()
        assert appliance.get("/readyz") == 200
        assert appliance.stop() == 0
    finally:
        appliance.close()


def test_output_that_nobody_takes_is_said_with_what_is_lost(tmp_path: Path) -> None:
    (tmp_path / "setup.yaml").write_text(SETUP)
    for arguments, said in (
        (["version"], "Error: the output could not be written: No space left on device\n"),
        (
            ["apply", "setup.yaml"],
            "Error: the file was applied, but the output could not be written: No space left on device. The secrets of new keys are lost "
            "('made' of dev@example.com): rotate these keys, or delete them and apply again\n",
        ),
    ):
        with open("/dev/full", "wb") as full:
            command = [*FROM_SOURCE, *arguments]
            done = subprocess.run(command, cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, said)


def from_shell(redirections: str) -> tuple[str, ...]:
    return ("sh", "-c", f'exec "$@" {redirections}', "sh", *FROM_SOURCE)


def test_a_first_password_that_nobody_reads_does_not_stop_the_server(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path, program=from_shell(">/dev/full"), settings={"admin_password": None})
    put_database(appliance.data_dir)
    try:
        appliance.start()
        [lost] = until(lambda: appliance.events("not_announced"), 10, "the log says so")
        assert (lost["lost"], "admin reset-password" in lost["remedy"]) == ("first password", True)
        assert appliance.stop() == 0
    finally:
        appliance.close()


def test_closed_standard_streams_are_no_trouble(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path, program=from_shell("<&- >&- 2>&-"))
    put_database(appliance.data_dir)
    try:
        appliance.start()
        assert appliance.stop() == 0
    finally:
        appliance.close()


def test_a_wrong_setup_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "setup.yaml").write_text("groups:\n  - {nam: a}\n")
    done = run(tmp_path, "apply", "setup.yaml")
    assert done.returncode == 2
    assert "setup.yaml:2" in done.stderr
    assert "nam" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_account_with_the_administrators_name_stops_the_first_start_until_it_has_another(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path)
    appliance.apply({"users": [{"email": "ops@example.com", "username": ADMIN_EMAIL}]})
    refused = appliance.command("serve", "--port", "0", check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.endswith(
        f"Error: the username {ADMIN_EMAIL}, which is needed here, belongs to the account ops@example.com: "
        "give it another username with `dwctl apply`, or set another admin_email\n"
    )
    appliance.apply({"users": [{"email": "ops@example.com", "username": "ops"}]})
    try:
        appliance.start()
        assert "The password of" in appliance.command("admin", "reset-password").stdout
    finally:
        appliance.close()


def test_reset_password(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path)
    try:
        appliance.start()
        done = appliance.command("admin", "reset-password")
        assert re.fullmatch(rf"The password of {ADMIN_EMAIL} is now \S{{12,}}\n", done.stdout)
        nobody = appliance.command("admin", "reset-password", "--email", "nobody@example.com", check=False)
        assert (nobody.returncode, nobody.stderr) == (1, "Error: no account has the address nobody@example.com\n")
        system = appliance.command("admin", "reset-password", "--email", "system@internal", check=False)
        assert (system.returncode, system.stdout, system.stderr) == (1, "", "Error: The system user is protected\n")
        assert appliance.stop() == 0
    finally:
        appliance.close()


def test_reset_password_in_the_wrong_folder_makes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "admin", "reset-password", "--email", "ada@example.com")
    assert done.returncode == 1
    assert f"there is no database at {tmp_path}/dwctl-data/dwctl.db" in done.stderr
    assert "--data-dir" in done.stderr
    assert list(tmp_path.iterdir()) == []
