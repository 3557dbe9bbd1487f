"""The package as others get it: a wheel in an empty environment, importable parts, documented names."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import vanillayolo

ROOT = Path(__file__).parents[1]


def test_every_module_imports() -> None:
    for module in pkgutil.walk_packages(vanillayolo.__path__, "vanillayolo."):
        importlib.import_module(module.name)


def test_only_the_adapter_imports_ultralytics() -> None:
    for path in (ROOT / "src" / "vanillayolo").rglob("*.py"):
        if path.parent.name != "yolo":
            assert not re.search(r"^\s*(from|import) ultralytics", path.read_text(), re.M), path


def test_a_plain_import_registers_with_timm() -> None:
    script = "import vanillayolo, timm; print(len(timm.list_models('vanillanet*')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "11", done.stderr[-1000:]


def test_changelog_and_version_agree() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{vanillayolo.__version__}"' in text
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_the_wheel_alone_has_all_it_needs(tmp_path: Path) -> None:
    """Built from a copy of the checkout; imported with nothing of the checkout on the path."""
    source = tmp_path / "source"
    source.mkdir()
    shutil.copytree(ROOT / "src" / "vanillayolo", source / "src" / "vanillayolo")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    built = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"vanillayolo/py.typed", "vanillayolo/cli.py", "vanillayolo/nn/vanillanet.py"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    empty = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(empty)
    script = f"import sys; sys.path.insert(0, {str(empty)!r}); import vanillayolo, vanillayolo.cli as c; " + (
        "print(vanillayolo.__file__); sys.exit(c.main(['demo', 'epochs=1']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(empty) in done.stdout
    assert (tmp_path / "demo" / "detections.png").is_file()
