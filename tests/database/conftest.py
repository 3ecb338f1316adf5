"""Everything about the database is tested on the embedded server and on an older one, if there is one."""

from __future__ import annotations

import pytest

from tests.conftest import Server


@pytest.fixture(params=["embedded", "system"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)
