"""A training's files are whole, in one folder, of one process; what was cut off goes on where it was."""

from __future__ import annotations

import csv
import errno
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from test_atomic import file_size_limit
from test_locks import hold
from vanillayolo import VanillaYOLO, cli
from vanillayolo.errors import CheckpointError
from vanillayolo.yolo.checkpoints import is_undamaged, newest_checkpoint
from vanillayolo.yolo.saving import cut_rows, run_folder, told_in_thread

EPOCHS = 5


@pytest.fixture(scope="module")
def halted(small_yaml: Path, quick: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that Ctrl-C stopped after its third epoch of five was saved."""

    def stop(trainer: Any) -> None:
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    detector = VanillaYOLO(small_yaml)
    detector.add_callback("on_model_save", stop)
    folder = tmp_path_factory.mktemp("halted")
    told = r"Epoch 3 is saved; go on with 'vanillayolo train model=.*last\.pt resume'"
    with pytest.raises(KeyboardInterrupt, match=told):
        detector.train(**quick, project=str(folder), name="run", epochs=EPOCHS, decay=0.4, save_period=2)
    return folder / "run"


@pytest.fixture
def moved(halted: Path, tmp_path: Path) -> Path:
    """A copy of it in another place."""
    return Path(shutil.copytree(halted, tmp_path / "moved"))


def resume(run: Path, *words: str) -> int:
    return cli.main(["train", f"model={run / 'weights' / 'last.pt'}", "resume", *words])


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "results.csv").open() as file:
        return list(csv.DictReader(file))


def snapshot(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def tear(path: Path) -> None:
    """Leave what a kill in the middle of writing leaves."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("vanillayolo:", "Traceback"))]
    assert len(lines) == 1, lines
    return lines[0]


# -- from trainings


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_a_moved_run_goes_on_where_it_is_now(
    halted: Path, moved: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    original, before = snapshot(halted), snapshot(moved)
    with file_size_limit(200_000):  # the table fits, the checkpoint does not
        assert resume(moved) == 1
    told = one_line(capsys)
    assert "last.pt (File too large); make room" in told
    assert f"Epoch 3 is saved; go on with 'vanillayolo train model={moved}/weights/last.pt resume'" in told
    weights = {path for path in before if path.suffix == ".pt"}
    assert {path: path.read_bytes() for path in weights} == {path: before[path] for path in weights}
    assert {path.name for path in moved.rglob("*")} == {path.name for path in halted.rglob("*")}
    assert len(rows(moved)) == 4  # the row of the epoch that could not be saved

    with (moved / "results.csv").open("a") as file:
        file.write("5,1.0,half a r")  # as versions before left it, killed in the middle
    tear(moved / "weights" / "best.pt")
    noticed: list[bool] = []
    detector = VanillaYOLO(moved / "weights" / "last.pt")
    detector.add_callback("on_train_start", lambda _: noticed.append("best.pt is damaged" in caplog.text))
    detector.train(resume=True)
    assert noticed == [True]  # before the first epoch, not after the last
    assert [row["epoch"] for row in rows(moved)] == ["1", "2", "3", "4", "5"]
    assert [float(row["metrics/negative_slope"]) for row in rows(moved)] == [0, 0.5, 1, 1, 1]
    assert {path.name for path in (moved / "weights").iterdir()} == {
        "best.pt", "best-damaged.pt", "last.pt", "epoch0.pt", "epoch2.pt", "epoch4.pt"
    }  # fmt: skip
    for name in ("best.pt", "last.pt"):
        assert VanillaYOLO(moved / "weights" / name).ckpt["optimizer"] is None
    assert snapshot(halted) == original
    assert resume(moved) == 2
    assert "nothing to resume; its training has ended" in one_line(capsys)


@pytest.mark.slow
def test_a_torn_last_checkpoint_is_gone_around(
    moved: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("last.pt", "best.pt"):
        tear(moved / "weights" / name)
    (moved / "results.csv").unlink()
    assert resume(moved) == 0
    assert "last.pt is damaged; epoch2.pt of epoch 3 is the newest checkpoint" in caplog.text
    assert [row["epoch"] for row in rows(moved)] == [
        "1",
        "2",
        "3",
        "4",
        "5",
    ]  # those before from its table
    assert is_undamaged(moved / "weights" / "best.pt")


@pytest.mark.slow
def test_a_run_killed_before_its_end_was_written_is_ended_by_resume(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "run" / "weights"
    weights.mkdir(parents=True)
    for name in ("best.pt", "last.pt"):
        shutil.copyfile(run / "weights" / "epoch5.pt", weights / name)  # of six epochs
    assert resume(weights.parent) == 2
    assert "nothing to resume; its training has ended" in one_line(capsys)
    for name in ("best.pt", "last.pt"):
        ckpt = VanillaYOLO(weights / name).ckpt
        assert (ckpt["epoch"], ckpt["optimizer"]) == (-1, None)


# -- refusals


@pytest.mark.slow
def test_a_second_training_in_the_folder_is_refused(
    moved: Path, small_yaml: Path, quick: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(moved)
    first = hold(moved)
    try:
        assert resume(moved) == 2
        assert f"{moved}: another training writes there (process {first.pid} " in one_line(capsys)
        settings = {**quick, "project": moved.parent, "name": moved.name, "epochs": 1}
        assert cli.main(["train", f"model={small_yaml}", *(f"{k}={v}" for k, v in settings.items())]) == 2
        assert "another training writes there" in one_line(capsys)
    finally:
        first.kill()
        first.wait()
    (moved / ".vanillayolo.lock").unlink()
    assert snapshot(moved) == before


def gone(data: Path) -> None:
    data.unlink()


def without_pictures(data: Path) -> None:
    shutil.rmtree(data.parent / "images" / "train")


def more_classes(data: Path) -> None:
    content = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump({**content, "names": [f"class{i}" for i in range(7)]}))


def label_that_is_no_number(data: Path) -> None:
    label = next((data.parent / "labels" / "train").glob("*.txt"))
    label.write_text("0 nan 0.5 0.1 0.1\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (gone, "give data="),
        (without_pictures, "give data="),
        (more_classes, "has 7 classes, the checkpoint"),
        (label_that_is_no_number, "nan"),
    ],
)
def test_resume_checks_the_data_as_train_does(
    change: Callable[[Path], None], told: str, moved: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(scenes.parent, moved.parent / "data"))
    data = root / scenes.name
    data.write_text(data.read_text().replace(str(scenes.parent), str(root)))
    change(data)
    before = snapshot(moved)
    ckpt = torch.load(moved / "weights" / "last.pt", weights_only=False)
    ckpt["train_args"]["data"] = str(data)
    torch.save(ckpt, moved / "weights" / "last.pt")
    assert resume(moved) == 2
    assert told in one_line(capsys)
    assert {p: c for p, c in snapshot(moved).items() if p.name != "last.pt"} == {
        p: c for p, c in before.items() if p.name != "last.pt"
    }


@pytest.mark.slow
def test_resume_asks_whether_the_device_is_there(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ckpt = torch.load(moved / "weights" / "last.pt", weights_only=False)
    ckpt["train_args"]["device"] = 99
    torch.save(ckpt, moved / "weights" / "last.pt")
    assert resume(moved) == 2
    assert "device=99: not on this machine" in one_line(capsys)


# -- without a training


def test_a_picture_drawn_in_a_thread_on_a_full_disk_is_one_line(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(error: Exception) -> None:
        raise error

    monkeypatch.setattr(threading, "excepthook", told_in_thread)
    for error in (OSError(errno.ENOSPC, "No space left on device"), ValueError("ours")):
        thread = threading.Thread(target=draw, args=(error,))
        thread.start()
        thread.join()
    assert caplog.text.count("a picture could not be written (No space left on device)") == 1
    told = capsys.readouterr().err
    assert "ValueError: ours" in told
    assert "OSError" not in told


def test_the_newest_whole_checkpoint_of_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read(path: Path) -> dict[str, Any]:
        if not is_undamaged(path):
            raise CheckpointError(f"{path}: torn")
        return dict(torch.load(path, weights_only=False))

    def newest(given: Path) -> str:
        return newest_checkpoint(given, read)[0].name

    weights = tmp_path / "weights"
    weights.mkdir()
    last = weights / "last.pt"
    with pytest.raises(CheckpointError, match="torn"):
        newest(last)
    for name, date, epoch in (("epoch9", 1, 9), ("epoch10", 1, 10), ("best", 2, 0), ("last", 2, 0)):
        torch.save({"date": f"2026-01-0{date}T00:00:00+00:00", "epoch": epoch}, weights / f"{name}.pt")
    assert newest(last) == newest(tmp_path) == newest(weights) == "last.pt"  # epoch10: of an earlier run in this folder
    assert newest(weights / "epoch9.pt") == "epoch9.pt"  # named, so wanted
    assert caplog.text == ""
    torch.save({"date": "2026-01-03T00:00:00+00:00", "epoch": 1}, weights / "best.pt")  # killed before last.pt's turn
    assert newest(last) == "best.pt"
    assert "last.pt is older; best.pt of epoch 2 is the newest checkpoint" in caplog.text
    tear(last)
    assert newest(last) == newest(tmp_path) == "best.pt"
    tear(weights / "best.pt")
    assert newest(last) == "epoch10.pt"
    for path in weights.iterdir():
        tear(path)
    with pytest.raises(CheckpointError, match="torn"):
        newest(last)
    torch.save({"epoch": 1}, tmp_path / "best.pt")
    torch.save({"epoch": 0}, tmp_path / "last.pt")
    assert newest(tmp_path / "last.pt") == "last.pt"  # files that lie beside one another need not be of one run


def test_a_run_goes_on_in_the_folder_of_its_checkpoint(tmp_path: Path) -> None:
    assert run_folder(tmp_path / "run" / "weights" / "last.pt", "train") == tmp_path / "run"
    assert run_folder(tmp_path / "last.pt", "train") == tmp_path / "train-last"  # a copy: not where the original is


def test_rows_of_epochs_that_the_checkpoint_has_not_are_cut(tmp_path: Path) -> None:
    results = tmp_path / "results.csv"
    results.write_text("epoch,time,loss\n1,1,0.1\n2,2,0.2\n2,1,0.25\n3,2,0.3\n4,3,0\n4,3", encoding="utf-8")
    cut_rows(results, 3)
    assert results.read_text() == "epoch,time,loss\n1,1,0.1\n2,1,0.25\n3,2,0.3\n"
    results.unlink()
    cut_rows(results, 1, {"epoch": [1, 2], "time": [1.5, 2.5], "loss": [0.1234567, None]})
    assert results.read_text() == "epoch,time,loss\n1,1.5,0.123457\n"
    cut_rows(results, 2, {"epoch": [1, 2], "time": [9.0, 2.5], "loss": [9.0, 0.5]})  # of an epoch gone back from
    assert results.read_text() == "epoch,time,loss\n1,1.5,0.123457\n2,2.5,0.5\n"
    results.write_text("")
    cut_rows(results, 1)
    assert results.read_text() == ""


def test_a_torn_table_is_mended_from_the_checkpoint(tmp_path: Path) -> None:
    results, whole = tmp_path / "results.csv", b"epoch,time,loss\n1,1.5,0.1\n2,2.5,0.2\n"
    saved = {"epoch": [1, 2], "time": [1.5, 2.5], "loss": [0.1, 0.2]}
    torn = [whole[:9], whole[:-4], whole + b"\xff\xfe\0", whole.replace(b"2,2.5", b"\0\0,2.5"), whole + b'3,"']
    torn += [b"\xb2\n" * 9, whole + "\u00b2,3,4\n".encode(), whole + b"3," + b"9" * 200_000]
    for content in torn:
        results.write_bytes(content)
        cut_rows(results, 2, saved)
        assert results.read_bytes() == whole
