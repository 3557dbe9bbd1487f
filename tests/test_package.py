"""The package as others get it: a wheel in an empty environment, importable parts, documented names."""

from __future__ import annotations

import ast
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
    assert {"vanillayolo/web/index.html", "vanillayolo/web/page.js", "vanillayolo/web/vanillayolo.js"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sizes = {
        entry.filename: entry.file_size for entry in zipfile.ZipFile(wheel).infolist() if "/weights/" in entry.filename
    }
    assert {name.rpartition(".")[0] + ".json" for name in sizes} <= set(sizes)
    assert max(sizes.values(), default=0) <= 7e6
    assert wheel.stat().st_size <= 30e6
    empty = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(empty)
    script = f"import sys; sys.path.insert(0, {str(empty)!r}); import vanillayolo, vanillayolo.cli as c; " + (
        "print(vanillayolo.__file__); sys.exit(max(c.main(line.split()) for line in sys.argv[1:]))"
    )
    lines = (
        "scenes folder=scenes pictures=10 size=64 workers=1",
        f"train data=scenes/scenes.yaml epochs=1 imgsz=64 batch=4 plots=False project={tmp_path} name=run",
        "collapse model=run/weights/best.pt",
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *lines], capture_output=True, text=True, timeout=400, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(empty) in done.stdout
    assert "tensors taken" in done.stdout + done.stderr, "the weights are not there"
    assert (tmp_path / "run" / "weights" / "best-collapsed.pt").is_file()


#: Floors of the house, the lowest first: what a module imports stands on its own floor or below.
FLOORS = (
    ("environment", "errors", "values", "settings", "tables", "valid_json", "places", "atomic", "locks", "cluster"),
    ("runners", "prove", "launched"),
    ("nn", "data"),
    ("yolo",),
    ("deploy",),
    ("study",),
    ("interface", ""),
    ("shards", "pool", "machines", "bulk", "commands", "study_commands", "completion", "words", "cli", "__main__"),
)


def imported_modules() -> dict[str, set[str]]:
    """Return the modules of ours that each module imports, in functions too, but not for types alone."""
    source = ROOT / "src"
    files = {".".join(p.relative_to(source).with_suffix("").parts): p for p in source.rglob("*.py")}
    names = {name.removesuffix(".__init__"): path for name, path in files.items()}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        package = name.split(".")[: None if path.name == "__init__.py" else -1]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for test in ast.walk(tree):
            if isinstance(test, ast.If) and isinstance(test.test, ast.Name) and test.test.id == "TYPE_CHECKING":
                test.body = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & names.keys()
            if isinstance(node, ast.ImportFrom):
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
                base = base if node.level else str(node.module)
                for alias in node.names:
                    graph[name] |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in names else base} & names.keys()
    return graph


def test_imports_go_down_and_in_no_circle() -> None:
    graph = imported_modules()
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    for module, imported in graph.items():
        mine = floor[[*module.split("."), ""][1]]
        above = [other for other in imported if floor[[*other.split("."), ""][1]] > mine]
        assert not above, f"{module} imports {above}, from a floor above"
    left = dict(graph)
    while ends := [module for module, imported in left.items() if not imported & left.keys() - {module}]:
        left = {module: imported for module, imported in left.items() if module not in ends}
    assert not left, f"a circle is among {sorted(left)}"
