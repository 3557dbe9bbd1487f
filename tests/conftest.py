"""What every test has: private folders, no network, the shared data where it exists, a network small enough to train.

The environment is set here, before any test module imports Ultralytics: it reads these variables once, at import.
"""

from __future__ import annotations

import atexit
import gc
import importlib.util
import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from small import shrink

CI_FROM_OUTSIDE = os.environ.get("CI", "").lower() == "true"
PRIVATE = Path(tempfile.mkdtemp(prefix="vanillayolo-tests-"))
atexit.register(shutil.rmtree, PRIVATE, ignore_errors=True)


def set_environment() -> None:
    """Point every cache and settings file at the private folder and turn off whatever would fetch."""
    os.environ.update(
        YOLO_OFFLINE="1",
        YOLO_AUTOINSTALL="false",
        YOLO_CONFIG_DIR=str(PRIVATE / "config"),
        VANILLAYOLO_CACHE=str(PRIVATE / "cache"),
        MPLCONFIGDIR=str(PRIVATE / "matplotlib"),
        MPLBACKEND="Agg",
    )
    os.environ.setdefault("CI", "true")
    # The networks here are tiny: on a busy machine a second thread only waits, measured up to a hundred times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Ultralytics fetches Arial.ttf for its plots where its settings folder has none: any font of that name will do.
    fonts = PRIVATE / "config" / "Ultralytics"
    fonts.mkdir(parents=True)
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib and matplotlib.origin:
        font = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        for name in ("Arial.ttf", "Arial.Unicode.ttf"):
            shutil.copyfile(font, fonts / name)


set_environment()


def pytest_configure(config: pytest.Config) -> None:
    """Load the shared fixtures, which import Ultralytics, where tests run: not in the parent of several workers."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        for name in ("detectors", "installed"):
            config.pluginmanager.import_plugin(name)


# `make quick` asks for it; a test's own number of examples stays.
settings.register_profile("quick", max_examples=20, deadline=None)


def pytest_collection_finish() -> None:
    """Keep what all the imports made out of every collection of garbage: it is there to the end, millions of objects.

    A collection walked through them for half a second, and Ultralytics asks for one in every training.
    """
    gc.collect()
    gc.freeze()


#: Fixtures that train, export or start a process: a test that asks for one of them is slow.
SLOW = {"trained", "run", "halted", "learned", "peer", "compared", "exported", "int8_file", "page", "script"}


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs a slow fixture."""
    for item in items:
        if SLOW & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


# ---------------------------------------------------------------------------------------------------------------------
# No network


def is_outside(host: object) -> bool:
    """Return whether ``host`` is neither this machine nor no address at all."""
    if host is None:
        return False
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in ("", "localhost", "0.0.0.0", "::", socket.gethostname()):
        return False
    try:
        return not ipaddress.ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        return True


@pytest.fixture(scope="session", autouse=True)
def contacts() -> Iterator[list[str]]:
    """Refuse every address outside this machine, in this process, and list what was tried."""
    tried: list[str] = []

    def refuse(host: object) -> None:
        if is_outside(host):
            tried.append(str(host))
            raise AssertionError(f"a test tried to reach {host!r}: no test may use the network")

    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            refuse(address[0])
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            refuse(address[0])
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        refuse(host)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield tried


@pytest.fixture(autouse=True)
def no_contact(contacts: list[str]) -> Iterator[None]:
    """Fail the test that tried to leave this machine, even where the library swallowed the refusal."""
    before = len(contacts)
    yield
    assert contacts[before:] == [], "this test tried to use the network"


# ---------------------------------------------------------------------------------------------------------------------
# Shared data


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the data beside the checkout, or at $VANILLAYOLO_SHARED; the test is skipped where there is none."""
    root = Path(os.environ.get("VANILLAYOLO_SHARED") or Path(__file__).parents[2] / "shared")
    if not root.is_dir():
        pytest.skip(f"needs the shared data at {root} (or at $VANILLAYOLO_SHARED)")
    return root


@pytest.fixture(scope="session")
def shared_file(shared: Path) -> Callable[[str], Path]:
    """``shared_file("golden/cases.json")``: its path; missing in a folder that is there, it fails in CI, else skips."""

    def find(name: str) -> Path:
        path = shared / name
        if not path.exists():
            reason = f"{name} is missing from the shared data at {shared}"
            pytest.fail(reason) if CI_FROM_OUTSIDE else pytest.skip(reason)
        return path

    return find


# ---------------------------------------------------------------------------------------------------------------------
# Comparing


def check_near(got: Any, want: Any, share: float, what: str = "") -> None:
    """Assert that no entry of two tensors differs by more than ``share`` of the largest magnitude of ``want``."""
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    worst, scale = (got - want).detach().abs().max().item(), want.detach().abs().max().item()
    assert worst <= share * scale, f"{what}: differs by {worst:.3g}, largest magnitude {scale:.3g}, allowed {share:g}"


@pytest.fixture(scope="session")
def assert_near() -> Callable[..., None]:
    """``assert_near(got, want, share, what)``: see :func:`check_near`."""
    return check_near


# ---------------------------------------------------------------------------------------------------------------------
# A network that trains in seconds


@pytest.fixture(scope="session")
def shrink_yaml() -> Callable[..., dict[str, Any]]:
    """``shrink_yaml(cfg, dims, neck_width=0.125)``: see :func:`shrink`."""
    return shrink


@pytest.fixture
def tiny_cfg() -> dict[str, Any]:
    """Model YAML, as a dict, of a VanillaNet-5 detector of some 0.4 M parameters; use images of 64 px and more."""
    from vanillayolo.yolo import model_yaml

    return shrink(model_yaml("yolo11n-vanillanet-5"), [16, 16, 24, 32])


@pytest.fixture
def tiny_yaml(tiny_cfg: dict[str, Any], tmp_path: Path) -> Path:
    """The same as a file, ``yolo11n-tiny.yaml``."""
    from vanillayolo.yolo.architecture import dump_yaml

    path = tmp_path / "yolo11n-tiny.yaml"
    path.write_text(dump_yaml(tiny_cfg), encoding="utf-8")
    return path
