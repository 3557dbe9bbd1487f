from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vanillayolo.errors import UsageError
from vanillayolo.places import advice, check_file, check_folder, missing_folders, remove_empty


@contextmanager
def no_room() -> Iterator[None]:
    """A limit of nothing on the size of files: to a process it is a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)  # before pytest, whose output may be a file, writes again


def test_places_that_can_be_written_pass_and_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("old")
    check_folder("folder", tmp_path)
    check_folder("folder", tmp_path / "new" / "below")
    check_file("path", tmp_path / "there.txt")
    check_file("path", tmp_path / "new" / "file.json")
    assert [p.name for p in tmp_path.iterdir()] == ["there.txt"]
    assert (tmp_path / "there.txt").read_text() == "old"


def test_places_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for bad in ("file", "file/below/x", "x" * 3000, "circle", "/proc/nowhere", "/dev/full", "a\0b"):
        with pytest.raises(UsageError, match=r"^folder=.*: ") as error:
            check_folder("folder", tmp_path / bad)
        assert len(str(error.value).splitlines()) == 1
        assert len(str(error.value)) < 300
    with pytest.raises(UsageError, match=r"^path=.*: "):
        check_file("path", tmp_path / ("x" * 3000) / "w.yaml")
    for below in ("w.yaml", "y/w.yaml"):
        with pytest.raises(UsageError, match=r"^path=.*file' is a file; give a path in a folder"):
            check_file("path", tmp_path / "file" / below, make=False)
    with pytest.raises(UsageError, match="is a folder"):
        check_file("path", tmp_path)
    os.mkfifo(tmp_path / "pipe")  # root may replace it, a device too
    with pytest.raises(UsageError, match="is no file that could be replaced"):
        check_file("path", tmp_path / "pipe")
    (tmp_path / "pipe").unlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["circle", "file"]


def test_a_full_place_is_noticed(tmp_path: Path) -> None:
    with no_room(), pytest.raises(UsageError, match="ulimit"):
        check_folder("project", tmp_path / "runs")


def test_what_the_user_can_mend_is_advised_and_defects_are_not() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "last.pt")
    assert advice(full) == "last.pt: No space left on device; free some space, or give another place."
    assert advice(RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")) is not None
    circle = advice(RuntimeError("Symlink loop from '/data/circle'"))  # of Path.resolve
    assert circle == "Symlink loop from '/data/circle'; give a path without a circle of links."
    for defect in (FileNotFoundError(errno.ENOENT, "No such file", "x"), RuntimeError("shape"), OSError("odd")):
        assert advice(defect) is None


def test_a_run_without_value_is_removed_with_the_folders_made_for_it(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "detect" / "train"
    made = missing_folders(run)
    assert [p.name for p in made] == ["train", "detect", "runs"]
    (run / "weights").mkdir(parents=True)
    (run / "args.yaml").write_text("epochs: 1\n")
    remove_empty(run, [])  # it was there before
    assert run.exists()
    (run / "weights" / "last.pt").write_text("worth something")
    remove_empty(run, made)
    assert run.exists()
    (run / "weights" / "last.pt").unlink()
    (tmp_path / "runs" / "other").mkdir()
    remove_empty(run, made)
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["other"]
