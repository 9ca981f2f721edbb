"""One server before the simulator as an endpoint of every dialect, for programs that are not ours."""

from collections.abc import Iterator

import pytest

from tests.appliance import running
from tests.clients.running import PYTHON
from tests.e2e.sdks import Sdks, document
from tests.pasted import PACKAGES


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdks]:
    assert PYTHON.exists(), "what the tests run is missing: make clients javascript"
    assert PACKAGES.exists(), "what the tests run is missing: make clients javascript"
    with running(tmp_path_factory.mktemp("clients"), document) as programs:
        yield Sdks(*programs)
