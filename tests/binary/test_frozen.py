"""The one-file program's knowledge of its parent, without the binary."""

import os
import subprocess
import sys

from dwctl import frozen
from tests.appliance import ROOT

# The parent ends while the child waits for it; an ordinary user may not look at init.
ORPHAN = """
import os, time
from dwctl import frozen
if os.geteuid() == 0:
    os.setuid(65534)
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.01)
print(frozen._same_program(os.getppid()))
"""


def test_whoever_adopts_an_orphan_is_not_taken_for_its_bootloader() -> None:
    orphan = subprocess.Popen([sys.executable, "-c", ORPHAN], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert orphan.communicate(timeout=20)[0] == "False\n"


def test_a_parent_that_runs_the_same_executable_is() -> None:
    assert frozen._same_program(os.getpid())
