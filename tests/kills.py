"""Kill trainings of the installed script with SIGKILL, half of the times while they write, resume them, and check.

``python tests/kills.py --kills 300 --out benchmarks/faults/kills.json``; kills that the file counts are not repeated.
A training is killed and resumed until it ends. After each kill the newest checkpoint must hold every epoch but the one
in work; at the end results.csv must have every epoch once, with slope and learning rates of the unbroken run, and
best.pt must open. One in ten is Ctrl-C, which is not counted as a kill: what it is answered with must be true.

Starting Python takes longer than an epoch here, so that nine of ten processes are forked from one that has imported
everything, and run the script's file; the tenth starts afresh.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import conftest  # its environment: private folders, nothing fetched
from five_shapes import make_scenes
from small import shrink
from vanillayolo import VanillaYOLO, cli
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.architecture import dump_yaml

SCRIPT = Path(sys.executable).with_name("vanillayolo")
EPOCHS = 12
LIMIT = 1500.0  # seconds; a process that takes longer hangs


def prepare(folder: Path) -> list[str]:
    """Write data and a model of the smallest kind and return the words of their training."""
    data = make_scenes(folder / "scenes", train=6, val=2, size=64, seed=0)
    model = folder / "yolo11n-tiny.yaml"
    model.write_text(dump_yaml(shrink(model_yaml("yolo11n-vanillanet-5"), [16, 16, 24, 32])), encoding="utf-8")
    settings = {"epochs": EPOCHS, "imgsz": 64, "batch": 3, "nbs": 3, "optimizer": "AdamW", "plots": False}
    settings |= {"decay": 0.5, "warmup_epochs": 2.0, "save_period": 5, "project": folder / "runs"}
    return ["train", f"model={model}", f"data={data}", *(f"{key}={value}" for key, value in settings.items())]


def start(words: list[str], log: Path, afresh: bool) -> int:
    """Start the installed script and return its process's number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:  # nothing of the parent's may run in the child, whatever reaches it when
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(
                0, {random.choice(sorted(os.sched_getaffinity(0)))}
            )  # threads of so small networks wait
        sys.argv = [str(SCRIPT), *words]
        if afresh:
            os.execv(SCRIPT, sys.argv)
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as end:
        code = int(end.code or 0)
    except KeyboardInterrupt:
        print("KeyboardInterrupt", flush=True)  # before the script's own answer, as while Python starts
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def last_line(log: Path) -> str:
    """The last line that the latest process of a run said."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else ""


def written(run: Path) -> set[str]:
    """The temporaries in a run's folder."""
    found: set[str] = set()
    for folder in (run, run / "weights"):
        try:
            found |= {name for name in os.listdir(folder) if name.endswith((".part", ".ready"))}
        except FileNotFoundError:
            continue
    return found


def moment(rng: random.Random, aimed: bool, span: float, old: set[str]) -> Callable[[Path, float], bool]:
    """Return what says, asked every millisecond with the seconds since the start, that it is time to kill.

    Args:
        rng: of the choice.
        aimed: at a write; else at any moment.
        span: seconds within which a kill at any moment falls.
        old: temporaries that processes killed before have left: they are no write of this one.
    """
    if not aimed:
        seconds = rng.uniform(0, span)
        return lambda _, elapsed: elapsed > seconds
    seen: set[str] = set()
    number, delay = rng.randint(1, 5), rng.choice([0.0, rng.uniform(0, 0.004), rng.uniform(0, 0.03)])

    def due(run: Path, _: float) -> bool:
        seen.update(written(run) - old)
        if len(seen) < number:
            return False
        time.sleep(delay)
        return True

    return due


def run_until(
    words: list[str], run: Path, log: Path, due: Callable[[Path, float], bool], afresh: bool, sent: int = signal.SIGKILL
) -> int | None:
    """Start a training, send it a signal when that is due; return its exit code, or None when it was killed."""
    process, begun = start(words, log, afresh), time.monotonic()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        elapsed = time.monotonic() - begun
        if due(run, elapsed) or elapsed > LIMIT:
            os.kill(process, signal.SIGKILL if elapsed > LIMIT else sent)
            _, status = os.waitpid(process, 0)
            if elapsed > LIMIT:
                raise TimeoutError(f"{words}: no end after {LIMIT} s; see {log}")
            if os.WIFSIGNALED(status):
                return None if sent == signal.SIGKILL else 130  # Ctrl-C while Python itself was starting
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)


def rows(run: Path) -> list[dict[str, str]]:
    """The rows of results.csv that the run's folder has."""
    if not (run / "results.csv").exists():
        return []
    with (run / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def schedule(run: Path) -> list[tuple[str, ...]]:
    """Epoch, slope and learning rates of every row."""
    return [
        tuple(v for k, v in row.items() if k == "epoch" or "slope" in k or k.startswith("lr/")) for row in rows(run)
    ]


def faults_after_kill(run: Path) -> list[str]:
    """What a kill may not do to a run's files."""
    found = [f"results.csv: {row}" for row in rows(run) if None in row or None in row.values()]
    newest = -1
    for path in (run / "weights").glob("*.pt"):
        if not zipfile.is_zipfile(path) or zipfile.ZipFile(path).testzip():
            found.append(f"{path.name} is torn")
            continue
        ckpt = torch.load(path, map_location="cpu", weights_only=False)
        newest = max(newest, EPOCHS - 1 if ckpt["epoch"] < 0 else ckpt["epoch"])
    begun = max((int(row["epoch"]) for row in rows(run)), default=0)
    if newest + 1 < begun - 1:
        found.append(f"{begun} epochs begun to be saved, {newest + 1} held")
    return found


def is_true(told: str, run: Path) -> bool:
    """Whether what Ctrl-C was answered with is so: an epoch that is saved, or none."""
    saved = re.search(r"Epoch (\d+) is saved; go on with 'vanillayolo train model=(\S+) resume'", told)
    if saved:
        return int(torch.load(saved[2], map_location="cpu", weights_only=False)["epoch"]) + 1 == int(saved[1])
    if "No epoch was saved" in told:
        return not any((run / "weights").glob("*.pt"))
    return "The training has ended" in told or told.endswith(("vanillayolo: stopped", "KeyboardInterrupt")) or not told


def faults_at_end(run: Path, expected: list[tuple[str, ...]]) -> list[str]:
    """What must hold of a run that was killed and resumed until its end."""
    found = [] if schedule(run) == expected else [f"results.csv: {schedule(run)}, not {expected}"]
    found += [f"{name} is left" for name in written(run)]
    for name in ("best.pt", "last.pt"):
        ckpt = VanillaYOLO(run / "weights" / name).ckpt
        found += [] if ckpt["epoch"] == -1 and ckpt["optimizer"] is None else [f"{name} is not stripped"]
    return found


def train_through_kills(
    words: list[str],
    run: Path,
    expected: list[tuple[str, ...]],
    rng: random.Random,
    most: int,
    span: float,
    note: Callable[[Counter[str]], None],
) -> Counter[str]:
    """Train, killed and resumed until the end, at most ``most`` times; return counts, faults under their own names."""
    counts: Counter[str] = Counter()
    begin, resume = [*words, f"name={run.name}", "exist_ok=True"], ["train", f"model={run}/weights/last.pt", "resume"]
    log, held, idle = run.with_suffix(".log"), 0, 0
    while True:
        kind = rng.choice(["aimed", "random"])
        saved = (run / "weights" / "last.pt").exists()
        # Where the machine has become slower since the unbroken training, kills must not come before all progress.
        idle, held = (0 if len(rows(run)) > held else idle + 1), len(rows(run))
        old, within = written(run), 0.3 * span * (1 + idle / 3)
        due = moment(rng, kind == "aimed", within, old) if counts["kills"] < most else lambda *_: False
        sent = signal.SIGINT if rng.random() < 0.1 else signal.SIGKILL
        code = run_until(resume if saved else begin, run, log, due, rng.random() < 0.1, sent)
        if code == 130:
            told = last_line(log)
            counts.update(["Ctrl-C", *([] if is_true(told, run) else [f"fault: Ctrl-C says: {told}"])])
            counts.update(f"fault: {fault}" for fault in faults_after_kill(run))
        elif code is None:
            counts.update(["kills", kind, *(["while writing"] if written(run) - old else [])])
            counts.update(f"fault: {fault}" for fault in faults_after_kill(run))
        elif code == 0 or "its training has ended" in last_line(log):
            break
        else:
            counts[f"fault: exit code {code}: {last_line(log)}"] += 1
            break
        note(counts)
    counts.update(["trainings", *(f"fault: {fault}" for fault in faults_at_end(run, expected))])
    return counts


def run_kills(
    kills: int, folder: Path, seed: int, note: Callable[[Counter[str]], None] = lambda _: None
) -> Counter[str]:
    """Kill trainings until ``kills`` are reached; ``note`` is told the counts after each kill."""
    words = prepare(folder)
    begun = time.monotonic()
    code = run_until([*words, "name=unbroken"], folder, folder / "unbroken.log", lambda *_: False, afresh=False)
    span = time.monotonic() - begun
    assert code == 0, (folder / "unbroken.log").read_text(encoding="utf-8")
    expected = schedule(folder / "runs" / "unbroken")
    assert [row[0] for row in expected] == [str(n + 1) for n in range(EPOCHS)]
    rng, total = random.Random(seed), Counter[str]()
    while total["kills"] < kills:
        run, before = folder / "runs" / f"killed{total['trainings']}", total.copy()
        most = kills - total["kills"]
        total += train_through_kills(
            words, run, expected, rng, most, span, lambda now, before=before: note(before + now)
        )
        note(total)
        shutil.rmtree(run)
    return total


def main() -> None:
    """Read the words of the command line and write the record after every training."""
    global EPOCHS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of a training")
    parser.add_argument("--out", type=Path, help="record; kills in it count")
    given = parser.parse_args()
    EPOCHS = given.epochs
    before: Counter[str] = Counter()
    old: dict[str, Any] = {}
    if given.out and given.out.exists():
        old = json.loads(given.out.read_text(encoding="utf-8"))
        before.update(old["counts"])

    def note(counts: Counter[str]) -> None:
        total = before + counts
        faults = {key.removeprefix("fault: "): n for key, n in total.items() if key.startswith("fault: ")}
        record: dict[str, Any] = {
            "command": f"python tests/kills.py --kills {given.kills} --out benchmarks/faults/kills.json",
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "versions": {name: version(name) for name in ("vanillayolo", "ultralytics", "torch")},
            "goal": {"kills": 300, "faults": 0},
            "epochs of a training": EPOCHS,
            "counts": dict(total),
            "faults": sum(faults.values()),
            **{key: text for key, text in old.items() if key == "note"},
        }
        print(json.dumps(record["counts"]), flush=True)
        if given.out:
            given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="vanillayolo-kills-") as folder:
        run_kills(given.kills - before["kills"], Path(folder), before["trainings"], note)


if __name__ == "__main__":
    assert callable(cli.main)  # imported here, so that a forked script has it
    assert conftest.PRIVATE
    main()
