"""A name stands for the content before or the content after; what killed processes leave is removed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vanillayolo import atomic
from vanillayolo.atomic import whole_file, whole_set, write_whole
from vanillayolo.errors import WriteError


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_swept", set())


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes meanwhile, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_files(target: Path, content: str, wrong: BaseException | None = None) -> None:
    with whole_set(target) as stage:
        (stage / target.name).write_text(content)
        (stage / "folder").mkdir()
        (stage / "folder" / "x.txt").write_text(content)
        (stage / f"{target.name}.json").write_text(content)
        if wrong is not None:
            raise wrong


def contents(target: Path) -> list[str]:
    files = (target, target.with_name("folder") / "x.txt", target.with_name(f"{target.name}.json"))
    return [file.read_text() for file in files if file.exists()]


def test_a_file_takes_its_name_when_whole(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "deeper" / "x.bin", b"before")

    def fail(error: BaseException) -> None:
        with whole_file(path) as temporary:
            temporary.write_bytes(b"half")
            assert path.read_bytes() == b"before"
            raise error

    for error in (KeyboardInterrupt(), ValueError("ours")):
        with pytest.raises(type(error)):
            fail(error)
        assert path.read_bytes() == b"before"
        assert names(path.parent) == {"x.bin"}
    write_whole(path, "after\n")
    assert path.read_bytes() == b"after\n"
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # others may read it


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "far" / "x.txt")
    write_whole(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "far" / "x.txt").read_text() == "new"


def test_a_full_disk_is_one_line_and_leaves_what_stood_there(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "x.bin", b"before")
    write_files(tmp_path / "set", "before")
    with file_size_limit(100):
        with pytest.raises(WriteError, match=r"cannot write .*x\.bin \(File too large\); make room"):
            write_whole(path, bytes(200))
        with pytest.raises(WriteError, match="set"):
            write_files(tmp_path / "set", "x" * 200)
    assert path.read_bytes() == b"before"
    assert contents(tmp_path / "set") == ["before"] * 3
    assert names(tmp_path) == {"x.bin", "set", "set.json", "folder"}
    with pytest.raises(WriteError, match="File exists"):
        write_whole(path / "y", "a path below a file")


def test_errors_of_the_block_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "x") as temporary:
        temporary.write_bytes((tmp_path / "nowhere").read_bytes())


def test_a_set_is_placed_together_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "best.pt"
    write_files(target, "first")
    with pytest.raises(KeyboardInterrupt):
        write_files(target, "half", KeyboardInterrupt())
    assert contents(target) == ["first"] * 3
    write_files(target, "second")
    assert contents(target) == ["second"] * 3
    assert names(tmp_path) == {"best.pt", "best.pt.json", "folder"}


def test_a_kill_at_any_moment_of_placing_mixes_nothing_and_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename of a placing is the last one once, as of a killed process; then another process writes."""
    rename, replace, pid = Path.rename, Path.replace, dead_process()
    for last in range(1, 6):  # of six renames
        folder = tmp_path / str(last)
        target = folder / "best.pt"
        write_files(target, "old")
        left = [last]

        def counted(self: Path, to: Path, how: object = None, left: list[int] = left) -> Path:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt  # nothing runs after a kill; here the handlers do
            return how(self, to)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", lambda self, to: counted(self, to, rename))
            patch.setattr(Path, "replace", lambda self, to: counted(self, to, replace))
            patch.setattr(os, "getpid", lambda: pid)
            with pytest.raises(KeyboardInterrupt):
                write_files(target, "new")
        found = contents(target)
        assert found in (["old"] * len(found), ["new"] * len(found)), f"after {last} renames: {found}"
        assert target.exists()
        atomic._swept.clear()
        write_whole(folder / "other.txt", "by the next process")
        assert contents(target) == ["new"] * 3
        assert names(folder) == {"best.pt", "best.pt.json", "folder", "other.txt"}


def test_only_temporaries_of_ours_whose_process_is_dead_are_swept(tmp_path: Path) -> None:
    dead = dead_process()
    machine = atomic._MACHINE
    left = {
        f".last.pt.vanillayolo-{machine}-{dead}-ab12.part": False,
        f".last.pt.vanillayolo-{machine}-{os.getppid()}-ab12.part": True,  # lives
        f".last.pt.vanillayolo-elsewhere-{dead}-ab12.part": True,  # perhaps lives
        ".last.pt.part": True,
        "last.pt": True,
    }
    for name in left:
        (tmp_path / name).write_bytes(b"x")
    old = f".last.pt.vanillayolo-elsewhere-{dead}-cd34.part"
    (tmp_path / old).write_bytes(b"x")
    os.utime(tmp_path / old, (0, 0))
    (tmp_path / f".set.vanillayolo-{machine}-{dead}-ef56.part").mkdir()
    write_whole(tmp_path / "x.txt", "x")
    assert names(tmp_path) == {name for name, stays in left.items() if stays} | {"x.txt"}
