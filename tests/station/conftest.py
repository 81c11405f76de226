"""A region on this machine, an enrolled car, and uploads made by hand."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.cli.processes import free_port
from agent.station.authority import RegionFolder, create_region, load_region
from agent.station.enrollment import enroll_vehicle
from agent.station.store import Store
from tests.station.car import Car

VEHICLE = "v-0123456789"


def make_region(folder: Path, region_id: str = "cn", port: int = 8883) -> RegionFolder:
    return create_region(
        folder, region_id=region_id, host="broker.cn.test", port=port,
        prefixes=("127.0.0.0/8",), now=dt.datetime.now(dt.UTC),
    )  # fmt: skip


def enroll(region: RegionFolder, bundle: Path, vehicle: str = VEHICLE) -> Car:
    store = Store(region.path / "station.db")
    try:
        enroll_vehicle(
            region, store, bundle, vehicle=vehicle, now=dt.datetime.now(dt.UTC), rng=os.urandom
        )
    finally:
        store.close()
    return Car.load(bundle, vehicle, region.card.region)


@dataclass
class Place:
    region: RegionFolder
    store: Store
    car: Car
    bundle: Path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One region with one car; each test gets a copy, on a port of its own."""
    folder = tmp_path_factory.mktemp("template")
    region = make_region(folder / "cn", port=8883)
    enroll(region, folder / "car")
    return folder


def copy_region(template: Path, to: Path) -> RegionFolder:
    shutil.copytree(template, to, dirs_exist_ok=True)
    for name in ("cn", "car"):
        (to / name).chmod(0o700)
        card = to / name / "region.toml"
        if name == "cn":
            text = card.read_text().replace("port = 8883", f"port = {free_port()}")
        card.write_text(text)
    return load_region(to / "cn")


@pytest.fixture
def place(tmp_path: Path, template: Path) -> Iterator[Place]:
    region = copy_region(template, tmp_path)
    car = Car.load(tmp_path / "car", VEHICLE, region.card.region)
    store = Store(region.path / "station.db")
    yield Place(region, store, car, tmp_path / "car")
    store.close()
