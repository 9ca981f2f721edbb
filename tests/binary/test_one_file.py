"""dist/dwctl as somebody runs it: it starts, migrates, serves and drains; killed, it leaves nothing behind."""

import contextlib
import csv
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from PyInstaller.archive.readers import CArchiveReader

from dwctl import __version__
from dwctl.frozen import MARKER, YOUNG, remove_leftovers
from tests.appliance import ADMIN_EMAIL, ADMIN_PASSWORD, KEY, PRICE, ROOT, Appliance, environment, model, running, setup, until
from tests.conftest import small_disk

PROGRAM = ROOT / "dist" / "dwctl"

pytestmark = pytest.mark.binary


@pytest.fixture(autouse=True)
def unpack_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the programs of one test unpack themselves, so that nobody else's folders are seen."""
    if not PROGRAM.exists():
        message = "dist/dwctl is missing: make binary"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    made = Appliance(tmp_path / "served", program=(str(PROGRAM),))
    yield made
    made.close()


def family(pid: int) -> list[psutil.Process]:
    """The started process and everything that came of it."""
    started = psutil.Process(pid)
    return [started, *started.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_version_and_help_need_no_disk(unpack_dir: Path, tmp_path: Path) -> None:
    done = subprocess.run([PROGRAM, "version"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith(f"dwctl {__version__} (one-file program, Python 3.")
    until(lambda: list(unpack_dir.iterdir()) == [], 5, "the folder is removed")
    assert list(tmp_path.iterdir()) == [unpack_dir]


def test_it_migrates_serves_and_drains_on_sigterm(appliance: Appliance, unpack_dir: Path) -> None:
    appliance.start()
    assert (appliance.data_dir / "dwctl.db").stat().st_size > 0
    assert appliance.get("/readyz") == 200
    assert appliance.get("/admin/api/v1/users") == 401
    assert appliance.process is not None
    processes = family(appliance.process.pid)
    assert len(list(unpack_dir.glob("_MEI*"))) == 1
    assert appliance.stop() == 0
    until(lambda: gone(processes), 5, "no process is left")
    until(lambda: list(unpack_dir.iterdir()) == [], 5, "the folder is removed")


def test_it_answers_a_streamed_request_to_its_end_through_sigterm(tmp_path: Path) -> None:
    models = [model("slow", "sim-chat?tokens=40&rate=40", prices=[PRICE])]
    with running(tmp_path, lambda url: setup(url, models), program=(str(PROGRAM),)) as (appliance, simulator):
        connection = http.client.HTTPConnection("127.0.0.1", appliance.port, timeout=30)
        body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        connection.request("POST", "/ai/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        assert response.status == 200
        received = response.readline()
        assert received.startswith(b"data: {")
        assert appliance.process is not None
        appliance.process.terminate()
        received += response.read()
        assert received.endswith(b"data: [DONE]\n\n")
        request_id = response.headers["x-request-id"]
        assert appliance.process.wait(20) == 0
        appliance.process = None
        assert list(simulator.served()) == [request_id]
    database = sqlite3.connect(appliance.data_dir / "dwctl.db")
    with contextlib.closing(database):
        assert database.execute("SELECT source_id FROM credits_transactions WHERE transaction_type = 'usage'").fetchall() == [(request_id,)]


def test_sigterm_at_once_after_readiness_is_orderly_every_time(appliance: Appliance) -> None:
    for _ in range(5):
        appliance.start()
        assert appliance.stop() == 0
    text = appliance.log.read_text()
    assert text.count('"event": "stopped"') == 5
    assert "Traceback" not in text


def test_a_sigterm_while_starting_ends_it_without_a_trace(appliance: Appliance) -> None:
    for delay in (0.0, 0.1, 0.3):
        with appliance.log.open("ab") as log:
            process = subprocess.Popen(
                [PROGRAM, "serve", "--port", "0", "--data-dir", appliance.data_dir], stdout=log, stderr=log, env=environment()
            )
        time.sleep(delay)
        process.terminate()
        # Once it has begun to serve it ends in order; until then the signal ends it.
        assert process.wait(20) in (0, -signal.SIGTERM)
    assert "Traceback" not in appliance.log.read_text()


def test_sigkill_of_the_started_process_leaves_nothing_behind(appliance: Appliance, unpack_dir: Path) -> None:
    for _ in range(3):
        appliance.start()
        assert appliance.process is not None
        processes = family(appliance.process.pid)
        assert len(processes) >= 2
        appliance.kill()
        until(lambda killed=processes: gone(killed), 2, "no process is left")
        assert appliance.get("/healthz") == 0, "the port is closed"
        until(lambda: list(unpack_dir.iterdir()) == [], 5, "the unpacked folder is removed")
    # The lock of the data directory and the port are free at once.
    assert appliance.start() < 10
    assert appliance.stop() == 0


def test_sigkill_of_the_inner_process_ends_the_outer(appliance: Appliance, unpack_dir: Path) -> None:
    appliance.start()
    assert appliance.process is not None
    processes = family(appliance.process.pid)
    inner = next(process for process in processes[1:] if process.ppid() == appliance.process.pid)
    inner.kill()
    assert appliance.process.wait(10) != 0
    appliance.process = None
    until(lambda: gone(processes), 5, "no process is left")
    until(lambda: list(unpack_dir.iterdir()) == [], 5, "the folder is removed")


def test_leftovers_of_a_killed_family_go_at_the_next_start_and_only_those(appliance: Appliance, unpack_dir: Path) -> None:
    appliance.start()
    assert appliance.process is not None
    for process in reversed(family(appliance.process.pid)):
        process.suspend()
    for process in reversed(family(appliance.process.pid)):
        process.kill()
    appliance.kill()
    (left,) = unpack_dir.glob("_MEI*")
    foreign, young = unpack_dir / "_MEIforeign", unpack_dir / "_MEIyoung"
    for folder in (foreign, young):
        folder.mkdir()
    (young / MARKER).touch()
    (unpack_dir / "_MEIlink").symlink_to(left)
    old = time.time() - YOUNG - 10
    for path in (left, left / MARKER, foreign):
        os.utime(path, (old, old))
    running = Appliance(appliance.directory / "other", program=(str(PROGRAM),))
    try:
        running.start()
        (used,) = {path for path in unpack_dir.glob("_MEI*") if path not in (foreign, young) and not path.is_symlink()}
        assert used != left
        for path in (used, used / MARKER):
            os.utime(path, (old, old))
        subprocess.run([PROGRAM, "version"], env=environment(), check=True, capture_output=True, timeout=30)
        assert used.exists(), "a folder in use stays, however old"
        assert foreign.exists()
        assert young.exists()
        assert not left.exists()
        assert running.get("/healthz") == 200
    finally:
        running.close()


def test_what_did_not_come_to_its_end_of_unpacking_goes_at_the_next_start(tmp_path: Path) -> None:
    command = [PROGRAM, "version"]
    with small_disk(tmp_path / "disk", "4m") as disk:
        settings = environment(TMPDIR=str(disk))
        assert subprocess.run(command, env=settings, capture_output=True, timeout=30).returncode != 0
        (left,) = disk.glob("_MEI*")
        old = time.time() - YOUNG - 10
        for path in (left / MARKER, left):
            os.utime(path, (old, old))
        subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
        subprocess.run(command, env=settings, check=True, capture_output=True, timeout=30)
        until(lambda: list(disk.iterdir()) == [], 5, "both folders are removed")


def test_a_removal_that_is_broken_off_is_taken_up_by_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "_MEIleft"
    for number in range(20):
        (left / f"library{number}").mkdir(parents=True)
        (left / f"library{number}.so").touch()
        if number == 10:
            (left / MARKER).touch()

    def grown_old() -> None:
        old = time.time() - YOUNG - 10
        for path in (left / MARKER, left):
            os.utime(path, (old, old))

    remove, removed = os.rmdir, 0

    def broken_off(*args: Any, **options: Any) -> None:
        nonlocal removed
        removed += 1
        if removed == 20:
            raise KeyboardInterrupt
        remove(*args, **options)

    grown_old()
    with monkeypatch.context() as broken:
        broken.setattr(os, "rmdir", broken_off)
        with pytest.raises(KeyboardInterrupt):
            remove_leftovers(tmp_path / "_MEIown")
    grown_old()
    assert remove_leftovers(tmp_path / "_MEIown") == [left]
    assert not left.exists()


def test_a_leftover_that_another_start_removes_meanwhile_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "_MEIleft"
    left.mkdir()

    def is_left(folder: Path) -> bool:
        folder.rmdir()  # as the other does, just after both have looked
        return True

    monkeypatch.setattr("dwctl.frozen._is_left", is_left)
    assert remove_leftovers(tmp_path / "_MEIown") == [left]
    assert not left.exists()


def test_a_program_that_it_starts_does_not_inherit_its_libraries(appliance: Appliance) -> None:
    appliance.start()
    assert appliance.process is not None
    keeper = next(process for process in family(appliance.process.pid) if process.name() == "sh")
    assert "LD_LIBRARY_PATH" not in keeper.environ()
    assert not [file for file in keeper.open_files() if "dwctl.db" in file.path]
    assert appliance.stop() == 0


def test_sigint_to_the_group_is_orderly(appliance: Appliance) -> None:
    with appliance.log.open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "serve", "--port", str(appliance.port), "--data-dir", appliance.data_dir],
            stdout=log,
            stderr=log,
            env=environment(),
            process_group=0,
        )
    until(lambda: appliance.get("/healthz") == 200, 20, "healthy")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 0
    assert "Traceback" not in appliance.log.read_text()


def test_it_stays_within_its_size() -> None:
    assert PROGRAM.stat().st_size <= 60_000_000


def test_it_carries_no_development_packages() -> None:
    listing = subprocess.run(
        [sys.executable, "-m", "PyInstaller.utils.cliutils.archive_viewer", "-l", "-r", PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    packages = set(re.findall(r"'([A-Za-z_0-9]+)[./']", listing))
    assert {"dwctl", "sanic", "tortoise"} <= packages
    assert not packages & {"pytest", "hypothesis", "mypy", "openai", "pydantic", "pydantic_core", "psutil", "rich", "numpy", "PyInstaller"}


async def test_everything_inside_is_somebodys_whose_licence_is_shown(appliance: Appliance) -> None:
    archive = CArchiveReader(str(PROGRAM))
    owners = {
        library: package["package"]
        for package in json.loads(archive.extract("build/bundled.json"))["packages"]
        for library in package["libraries"]
    }
    for record in [name for name in archive.toc if name.endswith(".dist-info/RECORD")]:
        owner = record.partition("-")[0]
        owners |= {row[0]: owner for row in csv.reader(archive.extract(record).decode().splitlines())}
    modules = {name.partition(".")[0] for name in archive.open_embedded_archive("PYZ.pyz").toc} - sys.stdlib_module_names
    owned = {name.partition("/")[0].removesuffix(".py") for name in owners}
    assert {name for name in modules - owned if not name.startswith("_sysconfigdata")} == {"dwctl"}
    libraries = [name for name, (*_, kind) in archive.toc.items() if kind == "b" and name != MARKER]
    assert {"libcrypto.so.3", "libsqlite3.so.0"} <= set(libraries)
    assert [name for name in libraries if name not in owners] == []
    wanted = {canonical(owners[name]) for name in libraries} | {"dwctl", "python", "pyinstaller", "tracerite"}
    shown = await licences_shown(appliance)
    assert wanted <= shown.keys()
    assert [name for name, text in shown.items() if not text.strip()] == []
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in shown["python"]
    assert "Bootloader Exception" in shown["pyinstaller"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


async def licences_shown(appliance: Appliance) -> dict[str, str]:
    """What the program's own pages say: the text of each component's licence."""
    appliance.start()
    async with aiohttp.ClientSession(appliance.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.post("/authentication/login", json={"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}) as response:
            assert response.status == 200
        async with http.get("/admin/system/licences") as response:
            page = await response.text()
        found = {}
        for row in re.findall(r"<tr data-row><td>(.*?)</td>", page):
            link = re.fullmatch(r'<a href="([^"]+)">([^<]+)</a>', row)
            text = ""
            if link is not None:
                async with http.get(link[1]) as response:
                    assert response.status == 200
                    text = "".join(re.findall(r"<pre[^>]*>(.*?)</pre>", await response.text(), re.DOTALL))
            found[canonical(link[2] if link is not None else row)] = text
        return found
