"""Bad inputs by the hundred: each is to be one line that names what was given, exit code 2, nothing left behind.

A table of cases, run in one process through ``cli.main``. By hand, with the counts by kind as a record::

    python tests/bad_inputs.py --out benchmarks/faults/bad_inputs.json --label after

Kinds of outcome: ``refused`` (as wanted), ``traceback``, ``accepted`` (the command ran on), ``unclear`` (refused, but
not in one line that names what was given and what to do), ``left`` (refused, with files left behind), ``strict``
(refused although it is good).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import conftest  # noqa: F401  # sets the environment before Ultralytics is imported
from small import shrink

#: Of processor time, after which a command is taken to be at work; of the clock, after which it waits for something.
SECONDS, PATIENCE = 10, 120
LONG = "x" * 3000

#: What every command is called with; a case replaces some of it (``key=`` takes it out by a bare ``-key``).
BASE = {
    "train": "model={yaml} data={data} epochs=1 imgsz=32 batch=4 plots=false verbose=false project={out} name=run",
    "classify": "model=vanillanet-5-cls data={folder} epochs=1 imgsz=32 batch=4 plots=false project={out} name=run",
    "resume": "model={last} resume epochs=3",
    "val": "model={best} data={data} imgsz=32 plots=false verbose=false project={out} name=run",
    "predict": "model={best} source={image} imgsz=32 verbose=false project={out} name=run",
    "track": "model={best} source={video} imgsz=32 verbose=false project={out} name=run",
    "export": "model={best} format=torchscript imgsz=32 verify=false",
    "verify": "model={exported} reference={best} source={image}",
    "collapse": "model={best} imgsz=32 source={image}",
    "convert": "model={weights} path={out}/w.safetensors",
    "compare": "models={yaml} data={data} epochs=1 imgsz=32 batch=4 seeds=0 backends=none folder={out}/compare",
    "ablate": "data={folder} folder={out}/ablate configs=shallow-n0 seeds=0 epochs=1 batch=4",
    "benchmark": "models={best} imgsz=32 rounds=1 backends=torch",
    "features": "model={best} source={image} imgsz=32 folder={out}/features",
    "demo": "folder={out}/demo epochs=1",
    "info": "model={yaml}",
    "yaml": "model={yaml}",
}
#: The command behind a name above, where it is another.
COMMAND = {"classify": "train", "resume": "train"}

#: Run with a file-size limit of nothing, as on a full disk: refused in one line, exit code 1 or 2.
FULL = ("train", "val", "predict", "track", "export", "collapse", "convert", "compare", "ablate", "features", "demo")
# ---------------------------------------------------------------------------------------------------------------------
# The files that the cases name


def edited(source: Path, target: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """Save a copy of a checkpoint whose dict was edited."""
    import torch

    ckpt = torch.load(source, map_location="cpu", weights_only=False)
    changed = edit(ckpt)
    torch.save(ckpt if changed is None else changed, target)
    return target


def smaller(group: dict[str, Any]) -> None:
    """Take a parameter out of a group of an optimizer's state."""
    group["params"] = group["params"][:-1]


def filled(network: Any) -> Any:
    """Put what is no number into the first layer."""
    next(network.parameters()).data.fill_(float("nan"))
    return network


#: What was done to the training state of a ``last.pt``.
EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "last_epoch": lambda c: c.update(epoch=-5),
    "last_far": lambda c: c.update(epoch=10**9),
    "last_epoch_text": lambda c: c.update(epoch="three"),
    "last_args": lambda c: c.update(train_args=7),
    "last_no_args": lambda c: c.pop("train_args") and None,
    "last_keys": lambda c: c["train_args"].update(nonsense=1),
    "last_epochs": lambda c: c["train_args"].update(epochs="ten"),
    "last_imgsz": lambda c: c["train_args"].update(imgsz="big"),
    "last_lr": lambda c: c["train_args"].update(lr0=float("nan")),
    "last_optimizer": lambda c: c.update(optimizer={"state": {}}),
    "last_other": lambda c: c.update(optimizer={"state": {}, "param_groups": [{"params": [0, 1], "lr": 0.1}]}),
    "last_groups": lambda c: smaller(c["optimizer"]["param_groups"][0]),
    "last_ema": lambda c: c.update(ema="none"),
    "last_updates": lambda c: c.update(updates="many"),
    "last_nan": lambda c: c.update(ema=filled(c["ema"])),
    "last_fitness": lambda c: c.update(best_fitness="good"),
    "last_stopper": lambda c: c.update(stopper=7),
    "last_list": lambda c: [1, 2],
    "last_lr_nan": lambda c: c["optimizer"]["param_groups"][0].update(lr=float("nan")),
    "last_device": lambda c: c["train_args"].update(device=99),
    "last_scaler": lambda c: c.update(scaler=7),
}


def make_place(root: Path) -> dict[str, str]:
    """Make a small network with its data, and files that are none; return their paths by name."""
    import torch
    import yaml

    from five_shapes import make_scenes
    from vanillayolo import VanillaYOLO
    from vanillayolo.nn import set_negative_slope
    from vanillayolo.yolo import model_yaml
    from vanillayolo.yolo.architecture import dump_yaml

    data = make_scenes(root / "scenes", train=4, val=2, size=64, seed=1)
    images = sorted((root / "scenes" / "images" / "val").iterdir())
    small = root / "yolo11n-small.yaml"
    small.write_text(dump_yaml({**shrink(model_yaml("yolo11n-vanillanet-5"), [16, 16, 24, 32]), "nc": 5}))
    model = VanillaYOLO(small)
    for slope in (0.0, 1.0):
        set_negative_slope(model.model, slope)
        model.save(root / f"slope{slope:g}.pt")
    for split in ("train", "val"):
        for i, name in enumerate(("round", "square")):
            (root / "folder" / split / name).mkdir(parents=True)
            for k in range(4):
                shutil.copy(images[(i + k) % 2], root / "folder" / split / name / f"{k}{images[0].suffix}")
    (root / "notes.txt").write_text("no network, no data, no picture\n")
    (root / "empty.pt").write_bytes(b"")
    (root / "torn.pt").write_bytes((root / "slope1.pt").read_bytes()[:5000])
    torch.save({"weight": torch.zeros(2)}, root / "state.pt")
    torch.save({"model": model.model.model[0].state_dict()}, root / "backbone.pth")
    torch.save({"model": torch.nn.Conv2d(3, 3, 1).state_dict()}, root / "other.pth")
    (root / "cfg_bad.yaml").write_text(yaml.safe_dump({"epochs": "many", "nonsense": 1}))
    (root / "tracker_bad.yaml").write_text(yaml.safe_dump({"tracker_type": "nowhere", "track_high_thresh": "x"}))
    (root / "folder.pt").mkdir()
    records(root)
    others = other_files(root)
    names = {
        **{"yaml": "yolo11n-small.yaml", "best": "slope1.pt", "slope0": "slope0.pt", "folder": "folder"},
        **{"text": "notes.txt", "torn": "torn.pt", "empty": "empty.pt", "state": "state.pt", "weights": "backbone.pth"},
        **{"weights6": "other.pth", "cfg_bad": "cfg_bad.yaml", "tracker_bad": "tracker_bad.yaml"},
        **{"folder_pt": "folder.pt", "records_bad": "records_bad", "protocol_bad": "protocol_bad"},
        **{"protocol_nan": "protocol_nan", "ablate_nan": "ablate_nan", "ablate_bad": "ablate_bad"},
    }
    names |= others
    return {**{k: str(root / v) for k, v in names.items()}, "data": str(data), "image": str(images[0]), "long": LONG}


def other_files(root: Path) -> dict[str, str]:
    """Write edited checkpoints, exported files of other programs, settings that cannot be; return names by key."""
    import torch
    from ultralytics.utils import ROOT

    best, script = root / "slope1.pt", torch.jit.trace(torch.nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 8, 8))
    edited(best, root / "bare.pt", lambda c: c["model"])
    edited(best, root / "nameless.pt", lambda c: setattr(c["model"], "names", 7))
    edited(best, root / "strideless.pt", lambda c: setattr(c["model"], "stride", "eight"))
    for name, said in (("foreign", "{}"), ("listed", "[1, 2]")):
        torch.jit.save(script, str(root / f"{name}.torchscript"), _extra_files={"config.txt": said})
    (root / "torn.torchscript").write_bytes((root / "foreign.torchscript").read_bytes()[:500])
    (root / "cfg_key.yaml").write_text("1: 2\n")
    (root / "cfg_nan.yaml").write_text("lr0: .nan\n")
    tracker = (ROOT / "cfg" / "trackers" / "bytetrack.yaml").read_text(encoding="utf-8")
    (root / "tracker_far.yaml").write_text(tracker.replace("track_buffer: 30", "track_buffer: -1"))
    return {
        **{name: f"{name}.pt" for name in ("bare", "nameless", "strideless")},
        **{name: f"{name}.torchscript" for name in ("foreign", "listed")},
        **{name: f"{name}.yaml" for name in ("cfg_key", "cfg_nan", "tracker_far")},
        "torn_script": "torn.torchscript",
    }


def add_trained(root: Path, names: dict[str, str]) -> dict[str, str]:
    """Train for an epoch of two, export, film; return the paths of what came of it, by name, with those given."""
    import cv2
    import numpy as np

    from vanillayolo import VanillaYOLO, cli

    settings = {"epochs": 2, "imgsz": 32, "batch": 4, "plots": False, "verbose": False, "save_period": 1, "val": False}
    VanillaYOLO(names["yaml"]).train(
        data=names["data"], project=str(root / "trained"), name="run", optimizer="AdamW", **settings
    )
    weights = root / "trained" / "run" / "weights"
    last = edited(weights / "epoch0.pt", root / "last.pt", lambda c: c["train_args"].update(epochs=3))
    best = shutil.copy(weights / "best.pt", root / "best.pt")
    writer = cv2.VideoWriter(str(root / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 64))
    for _ in range(2):
        writer.write(np.asarray(cv2.imread(names["image"])))
    writer.release()
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(["export", f"model={best}", "format=torchscript", "imgsz=32", "verify=false"]) == 0
    made = {"best": best, "last": last, "exported": root / "best.torchscript", "video": root / "video.avi"}
    made |= {name: edited(last, root / f"{name}.pt", edit) for name, edit in EDITS.items()}
    return {**names, **{name: str(path) for name, path in made.items()}}


def records(root: Path) -> None:
    """Write folders of compare and of ablate whose records were edited."""
    settings = {"data": "scenes.yaml", "epochs": 1, "imgsz": 32, "batch": 4}
    for name, text, record in (
        ("records_bad", json.dumps(settings), '{"model": 7, "seed": "x"}'),
        ("protocol_bad", "[1, 2]", None),
        ("protocol_nan", json.dumps({**settings, "lr0": float("nan")}), None),
    ):
        run = root / name / "yolo11n-small" / "seed0"
        run.mkdir(parents=True)
        (root / name / "protocol.json").write_text(text)
        if record:
            (run / "record.json").write_text(record)
    own = {"data": "folder", "epochs": 1, "width": 1 / 32, "batch": 4, "lr": 3e-3, "weight_decay": 0.05}
    own |= {"decay": 1 / 3, "pair_init": "fan_in"}
    for name, record in (("ablate_nan", '{"top1": NaN, "seed": 0, "config": "shallow-n0"}'), ("ablate_bad", "[]")):
        (root / name).mkdir()
        (root / name / "protocol.json").write_text(json.dumps(own))
        (root / name / "shallow-n0_seed0.json").write_text(record)


# ---------------------------------------------------------------------------------------------------------------------
# Running


@dataclass
class Outcome:
    """What came of a case: its words, its kind (see above), and what was said."""

    case: str
    kind: str
    said: str


class RanOnError(BaseException):
    """The command was still at work when its seconds were over."""


def words_of(command: str, case: str, names: dict[str, str]) -> list[str]:
    """Return the command line of a case: the command's own words, those of the case in their place."""
    given = case.split()
    keys = {word.partition("=")[0] for word in given}
    base = [w for w in BASE[command].split() if w.partition("=")[0] not in keys]
    texts = [w.replace("\\0", "\0") for w in [*base, *given]]
    for name, path in names.items():
        texts = [text.replace("{" + name + "}", path) for text in texts]
    return [COMMAND.get(command, command), *texts]


def can_run(command: str, case: str, names: dict[str, str]) -> bool:
    """Return whether all files that a case names are there."""
    return not any("{" in word for word in words_of(command, case, {**names, "out": "out"}))


def contents(*roots: Path) -> set[str]:
    """Return everything that lies in some folders."""
    return {str(path) for root in roots for path in root.rglob("*")}


#: Words of a line that says what is allowed or what to do.
HINTS = (
    *("give ", "allowed", "did you mean", "omit", "leave", "remove", "choose", "train ", "write ", "start ", "must be"),
    *(
        "valid",
        "between",
        "neither",
        "takes",
        "make it",
        "copy",
        "export it",
        "put ",
        "free ",
        "only",
        "lacks",
        "use ",
        "fetch ",
        "correct",
        "holds",
    ),
)


def is_clear(text: str, word: str) -> bool:
    """Return whether a refusal is one line that names the key of a word, or its file, and says what to do."""
    key, _, value = word.partition("=")
    lines = text.strip().splitlines()
    told = [line for line in lines if line.startswith("vanillayolo: ")]
    if len(told) != 1 or lines[-1] != told[0]:
        return False
    line = told[0].lower()
    name = Path(value).name.lower()[:40]
    names = key.lower().rstrip("s") in line or (len(name) > 2 and name in line)
    return names and any(hint in line for hint in HINTS) and len(line) < 700


@contextlib.contextmanager
def file_limit(limit: int | None) -> Iterator[None]:
    """Let no file grow beyond ``limit`` bytes meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def ran_on(*_: Any) -> None:
    raise RanOnError


@contextlib.contextmanager
def stopped_at_the_first_batch(wanted: bool) -> Iterator[None]:
    """End a training where its first batch is there: it was accepted then."""
    from ultralytics.engine.trainer import BaseTrainer

    run_callbacks = BaseTrainer.run_callbacks

    def run(trainer: BaseTrainer, event: str) -> None:
        if event == "on_train_batch_start" and wanted:
            raise RanOnError
        run_callbacks(trainer, event)

    BaseTrainer.run_callbacks = run
    try:
        yield
    finally:
        BaseTrainer.run_callbacks = run_callbacks


def run_case(
    command: str, case: str, names: dict[str, str], root: Path, good: bool = False, full: bool = False
) -> Outcome:
    """Run one case in a folder of its own and judge it."""
    from vanillayolo import cli

    work = Path(tempfile.mkdtemp(dir=root / "work"))
    out = work / "out"
    out.mkdir()
    names = {**names, "out": str(out)}
    before, told, raised = contents(root), io.StringIO(), ""
    code: Any = None
    os.chdir(work)
    for kind, number, seconds in (
        (signal.ITIMER_PROF, signal.SIGPROF, SECONDS),
        (signal.ITIMER_REAL, signal.SIGALRM, PATIENCE),
    ):
        signal.signal(number, ran_on)
        signal.setitimer(kind, seconds)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(told),
            file_limit(0 if full else None),
            stopped_at_the_first_batch(not (good or full)),
        ):
            code = cli.main(words_of(command, case, names))
    except RanOnError:
        code = 0
    except BaseException:
        raised = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.chdir(root)
    said = told.getvalue()
    left = sorted(contents(root) - before)
    for path in left:
        with contextlib.suppress(OSError):
            Path(path).is_file() and Path(path).unlink()
    shutil.rmtree(work, ignore_errors=True)
    label = f"{command} {case}{' (full)' if full else ''}"
    if raised:
        return Outcome(label, "traceback", raised[-1500:])
    if good:
        return Outcome(label, "strict" if code == 2 else "good", said[-600:])
    if code == 0:
        return Outcome(label, "accepted", said[-300:])
    if left:
        return Outcome(label, "left", f"{[p.replace(str(root), '') for p in left][:6]} {said[-300:]}")
    clear = full or is_clear(said, words_of(command, case, names)[-len(case.split())])
    return Outcome(label, "refused" if clear else "unclear", said[-600:])


def cases() -> Iterator[tuple[str, str, dict[str, bool]]]:
    """Yield command, words and flags of every case in ``bad_inputs.txt``, and of commands without room to write."""
    command, flags = "", {}
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            command, _, good = line[1:-1].partition(" ")
            flags = {"good": True} if good else {}
        elif line.strip() and not line.startswith("#"):
            yield command, line.strip(), flags
    yield from ((command, "", {"full": True}) for command in FULL)


def run_all(root: Path, match: str = "", show: bool = False, every: int = 1, trained: bool = True) -> list[Outcome]:
    """Make the files and run the cases whose label contains ``match``.

    Args:
        root: an empty folder.
        match: part of the words.
        show: print what is not as it should be.
        every: run one case of so many.
        trained: train a network, and run the cases that want files of one.
    """
    from ultralytics.utils import SETTINGS

    (root / "work").mkdir(parents=True)
    SETTINGS.update(runs_dir=str(root / "runs"))
    names = make_place(root / "place")
    names = add_trained(root / "place", names) if trained else names
    found = []
    for command, case, flags in list(cases())[::every]:
        if match in f"{command} {case}" and can_run(command, case, names):
            found.append(run_case(command, case, names, root, **flags))
            if show and found[-1].kind not in ("refused", "good"):
                print(f"{found[-1].kind:<10} {found[-1].case}\n           {found[-1].said.strip()[-400:]}", flush=True)
    return found


def main() -> None:
    """Run the cases and write the counts by kind under a label into a record."""
    if hasattr(os, "sched_setaffinity"):  # threads of tiny networks only wait for each other
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON record; counts of other labels in it stay")
    parser.add_argument("--label", default="after", help="name of the counts in the record")
    parser.add_argument("--every", type=int, default=1, help="run one case of so many")
    parser.add_argument("--match", default="", help="only cases whose words contain this")
    parser.add_argument("--details", type=Path, help="JSON file for every outcome")
    args = parser.parse_args()
    here, out, details = Path.cwd(), args.out, args.details
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as folder:
        outcomes = run_all(Path(folder).resolve(), args.match, show=True, every=args.every)
        os.chdir(here)
    counts = Counter(o.kind for o in outcomes)
    print(len(outcomes), dict(counts))
    if details:
        details.write_text(json.dumps([vars(o) for o in outcomes], indent=1) + "\n")
    if out:
        record = (
            json.loads(out.read_text())
            if out.exists()
            else {"command": "python tests/bad_inputs.py --out FILE --label LABEL"}
        )
        versions = {p: version(p) for p in ("vanillayolo", "torch", "ultralytics")}
        by_command = {c: dict(Counter(o.kind for o in outcomes if o.case.split()[0] == c)) for c in BASE}
        record[args.label] = {
            "cases": len(outcomes), "kinds": dict(counts), "by command": by_command,
            "python": platform.python_version(), "versions": versions,
        }  # fmt: skip
        out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
