"""What tests of hot-plug share."""

from __future__ import annotations

import pytest

from tests.fakes.vm import FakeVm


@pytest.fixture
async def vm() -> FakeVm:
    vm = FakeVm()
    await vm.start(1.0)
    return vm
