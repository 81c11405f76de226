"""A region with one car, made once; and the image of that car, for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig import said_by
from tests.service.sites import Image


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("region")
    said_by("station", "init", folder / "region", "--region", "cn", "--host", "broker.example",
           "--prefix", "203.0.113.0/24", "--prefix", "2001:db8:5::/48")  # fmt: skip
    said_by("station", "enroll", folder / "region", folder / "car")
    return folder / "car"


@pytest.fixture
def image(tmp_path: Path, bundle: Path) -> Image:
    return Image(tmp_path / "image", bundle)
