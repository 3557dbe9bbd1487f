"""Prediction with ``output=``: every picture once, whatever is killed, and the boxes of plain ``predict``."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch

from vanillayolo import VanillaYOLO, bulk, launched
from vanillayolo.errors import UsageError
from vanillayolo.shards import make_shard

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
MODEL = Path(__file__).parent / "assets/0.1.0/detector.pt"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), noise.integers(0, 255, (48 + 8 * number, 64, 3), np.uint8))
    (folder / "broken.jpg").write_bytes(b"none")
    return folder


def rows(out):
    return [row for file in sorted((out / "shards").iterdir()) for row in pq.read_table(file).to_pylist()]


def command(source, out, workers):
    words = [f"model={MODEL}", f"source={source}", f"output={out}", f"workers={workers}", "imgsz=64", "conf=0.001"]
    return [sys.executable, "-m", "vanillayolo", "predict", *words]


def of_pool(run):
    workers = []
    for process in psutil.Process(run.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that has ended meanwhile
            if "spawn_main" in " ".join(process.cmdline()):
                workers.append(process)
    return workers


@pytest.mark.slow  # starts processes that import torch
def test_killed_worker_loses_and_doubles_no_picture(pictures, tmp_path):
    for number in range(130):
        os.link(pictures / f"{number % 4}.png", pictures / f"copy-{number}.png")
    out = tmp_path / "out"
    run = subprocess.Popen(command(pictures, out, 2), stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 300
    while not any((out / "shards").glob("part-*")) and time.time() < deadline and run.poll() is None:
        time.sleep(0.02)
    of_pool(run)[0].send_signal(signal.SIGKILL)
    _, said = run.communicate(timeout=600)
    assert run.returncode == 0, said
    names = [row["picture"] for row in rows(out)]
    assert len(names) == len(set(names)) == 135
    assert (out / "unreadable.txt").read_text().split() == [str(pictures / "broken.jpg")]
    coco = json.loads((out / "coco.json").read_text())
    assert len(coco["images"]) == 135
    plain = VanillaYOLO(MODEL)
    boxes = 0
    for row in rows(out)[:20]:
        if row["readable"]:
            (result,) = plain.predict(row["picture"], imgsz=64, conf=0.001, verbose=False, save=False)
            mine = [[b["x"], b["y"], b["w"] + b["x"], b["h"] + b["y"], b["score"]] for b in row["boxes"]]
            # float32 in the shard: 1e-3 px of rounding
            np.testing.assert_allclose(np.reshape(mine, (-1, 5)), result.boxes.data[:, :5].numpy(), atol=1e-3)
            boxes += len(mine)
    assert boxes
    removed = sorted((out / "shards").iterdir())[1]
    others = {f: f.stat().st_mtime_ns for f in (out / "shards").iterdir() if f != removed}
    removed.unlink()
    killed = subprocess.Popen(command(pictures, out, 1), stderr=subprocess.DEVNULL)
    while not (workers := of_pool(killed)) and killed.poll() is None:
        time.sleep(0.1)
    killed.kill()
    assert workers
    assert not psutil.wait_procs(workers, 300)[1]  # they end with the command
    assert subprocess.run(command(pictures, out, 1), check=False).returncode == 0
    assert len({row["picture"] for row in rows(out)}) == len(rows(out)) == 135
    assert others == {f: f.stat().st_mtime_ns for f in others}  # a restart makes what is missing alone


@pytest.mark.slow  # starts a process that imports torch
def test_a_parquet_source_gives_the_boxes_of_its_files(pictures, tmp_path):
    from vanillayolo.bulk import predict_all

    files = sorted(pictures.glob("*.png"))
    content = [None, None, files[2].read_bytes(), files[3].read_bytes()]  # by path, and by bytes
    pq.write_table(
        pa.table({"path": [str(f) for f in files], "bytes": pa.array(content, pa.binary())}), tmp_path / "x.parquet"
    )
    count = predict_all(str(MODEL), tmp_path / "x.parquet", str(tmp_path / "out"), 1, {"imgsz": 64, "conf": 0.001})
    assert count["pictures"] == 4
    assert count["unreadable"] == 0
    plain = VanillaYOLO(MODEL).predict(files, imgsz=64, conf=0.001, verbose=False)
    assert [len(row["boxes"]) for row in rows(tmp_path / "out")] == [len(result.boxes) for result in plain]
    assert count["boxes"] > 0
    assert not (tmp_path / "out" / ".vanillayolo.lock").exists()


@pytest.mark.slow
def test_a_task_writes_what_its_objects_have_besides(lively_other, scenes, tmp_path):
    from vanillayolo import shards

    names = shards.open_network(str(lively_other), {"imgsz": 64})
    pictures = [str(p) for p in sorted((scenes.parent / "images" / "val").iterdir())]
    shards.make_shard(tmp_path / "shards" / "part-0000000.parquet", [(p, None) for p in pictures])
    plain = VanillaYOLO(lively_other)
    key, numbers = {
        "segment": ("polygon", lambda result: [x.ravel() for x in result.masks.xy]),
        "obb": ("polygon", lambda result: result.obb.xyxyxyxy.flatten(1).numpy()),
        "pose": ("keypoints", lambda result: result.keypoints.data.flatten(1).numpy()),
    }[plain.task]
    for row, result in zip(rows(tmp_path), plain.predict(pictures, imgsz=64, verbose=False), strict=True):
        assert len(row["boxes"]) == len(result) > 0
        for box, wanted in zip(row["boxes"], numbers(result), strict=True):
            np.testing.assert_allclose(box[key], wanted, atol=1e-3)  # float32, 64 px
    count = bulk._gather(tmp_path, names)
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert len(coco["annotations"]) == count["boxes"]
    first = next(x for x in coco["annotations"] if x["score"] > 0)
    made = rows(tmp_path)[first["image_id"]]["boxes"][0]
    assert first["keypoints" if key == "keypoints" else "segmentation"] == (
        made[key] if key == "keypoints" else [made[key]]
    )


def test_points_without_visibility_are_seen():
    from vanillayolo.shards import _triples

    assert _triples(torch.zeros(2, 4, 2))[..., 2].tolist() == [[1.0] * 4] * 2
    assert _triples(torch.zeros(2, 4, 3)).shape == (2, 4, 3)


def test_refusals_leave_no_folder(pictures, tmp_path):
    from vanillayolo.bulk import predict_all

    bad = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"name": ["a"]}), bad)
    (tmp_path / "empty").mkdir()
    empty = (tmp_path / "empty", "no picture in it")
    for source, words in (
        empty,
        (tmp_path / "none", "give a folder"),
        (bad, "has columns name"),
        (None, "give a folder"),
    ):
        with pytest.raises(UsageError, match=words):
            predict_all(str(MODEL), source, str(tmp_path / "out"), 1, {})
    with pytest.raises(UsageError, match="conf=7"):
        predict_all(str(MODEL), pictures, str(tmp_path / "out"), 1, {"conf": 7})
    assert not (tmp_path / "out").exists()
    shutil.copytree(pictures, tmp_path / "full")
    with pytest.raises(UsageError, match="holds other files"):
        predict_all(str(MODEL), pictures, str(tmp_path / "full"), 1, {})


def as_process(rank, port, source, out):
    """Predict as one of two processes of a launcher, itself making its shards; note which."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))

    def make(work, *_):
        for file, rows in work:
            make_shard(file, rows)
            with (out.parent / f"made-{rank}").open("a") as made:
                made.write(file.name + "\n")
            yield file

    bulk.ENGINES["pool"] = make
    (out.parent / f"count-{rank}").write_text(json.dumps(bulk.predict_all(str(MODEL), source, str(out), 1, QUICK)))


QUICK = {"imgsz": 64, "max_det": 3}


@pytest.mark.slow  # starts two processes, which fork: they import nothing
def test_processes_of_a_launcher_share_the_pictures(pictures, tmp_path):
    for number in range(64 * 4):
        os.link(pictures / f"{number % 4}.png", pictures / f"copy-{number}.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    make = multiprocessing.get_context("fork").Process
    running = [make(target=as_process, args=(rank, port, pictures, tmp_path / "out")) for rank in (0, 1)]
    for process in running:
        process.start()
    for process in running:
        process.join(300)
        process.kill()
    assert [process.exitcode for process in running] == [0, 0]
    assert [json.loads((tmp_path / f"count-{rank}").read_text()) != {} for rank in (0, 1)] == [True, False]
    made = [(tmp_path / f"made-{rank}").read_text().split() for rank in (0, 1)]
    assert made[0]
    assert made[1]
    assert sorted(made[0] + made[1]) == sorted(file.name for file in (tmp_path / "out/shards").iterdir())  # each once
    names = [row["picture"] for row in rows(tmp_path / "out")]
    assert len(names) == len(set(names)) == 64 * 4 + 5
    assert len(json.loads((tmp_path / "out/coco.json").read_text())["images"]) == 64 * 4 + 5


def test_what_a_lost_process_has_taken_is_made_by_the_first(tmp_path, monkeypatch):
    from torch.distributed import HashStore

    store = HashStore()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.rendezvous", lambda *_, **__: iter([(store, 0, 2)]))
    monkeypatch.setattr(launched, "PATIENCE", 0.02)
    first = launched.Together()
    mine = bulk._missing(tmp_path, iter([(str(number), None) for number in range(64 * 5 + 1)]), first.numbers())
    monkeypatch.setenv("RANK", "1")
    second = launched.Together()
    other = bulk._missing(tmp_path, iter([(str(number), None) for number in range(64 * 5 + 1)]), second.numbers())
    taken = [next(mine), next(other), next(other), next(mine), *mine]
    assert [len(rows) for _, rows in taken] == [64, 64, 64, 64, 64, 1]
    assert len({file for file, _ in taken}) == 6
    assert not first.end(tmp_path)  # the second never says that it has ended
    assert second.end(tmp_path)
    assert first.end(tmp_path)
