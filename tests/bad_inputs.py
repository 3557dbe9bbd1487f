"""Bad inputs by the hundred: each is to be one line that names what was given, exit code 2, nothing left behind.

A table of cases, run in one process through ``cli.main``. By hand, with the counts by kind as a record::

    python tests/bad_inputs.py --out benchmarks/bad_inputs.json --label after

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

import conftest  # sets the environment before Ultralytics is imported

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

#: Bad words by command, one case a line: words, and after ``|`` what the line has to say beside the key.
BAD = {
    "train": """
        epochs=true
        epochs=0
        epochs=-5
        epochs=1.5
        epochs=none
        epochs=abc
        epochs=nan
        epochs=[1,2]
        epochs=1000000000000
        epochs=
        fraction=2.5
        fraction=0
        fraction=true
        fraction=nan
        fraction=-1
        imgsz=abc
        imgsz=true
        imgsz=1000000000
        imgsz=none
        imgsz=64.5
        imgsz=nan
        imgsz=
        batch=1000000000
        batch=true
        batch=none
        batch=abc
        batch=inf
        batch=1e999
        workers=1000000
        workers=-1
        workers=2.5
        workers=abc
        degrees=none
        degrees=nan
        degrees=inf
        degrees=1e9
        degrees=abc
        shear=nan
        lr0=nan
        lr0=-1
        lr0=2
        lr0=true
        lr0=[0.1]
        lrf=none
        momentum=1.5
        momentum=true
        weight_decay=inf
        box=nan
        box=-1
        box=inf
        cls=true
        dfl=none
        warmup_epochs=-1
        warmup_epochs=inf
        warmup_bias_lr=true
        mosaic=2
        mosaic=true
        hsv_h=nan
        scale=nan
        scale=[0.5]
        scale=[nan,2]
        scale=abc
        scale=[-1,2]
        scale=true
        seed=-1
        seed=99999999999999999999
        seed=abc
        seed=0.5
        patience=-1
        patience=true
        patience=abc
        close_mosaic=-3
        close_mosaic=true
        nbs=0
        nbs=true
        nbs=1000000000000
        save_period=abc
        save_period=true
        optimizer=
        optimizer=Adaam
        optimizer=7
        optimizer=none
        amp=perhaps
        amp=none
        compile=7
        compile=quickly
        cache=perhaps
        cache=7
        device=99
        device=gpu
        device=cuda:7
        device=true
        device=1.5
        time=0
        time=-1
        time=nan
        time=true
        time=1e12
        time=inf
        cos_lr=1
        cos_lr=perhaps
        deterministic=none
        single_cls=yes
        rect=maybe
        save=7
        val=none
        multi_scale=true
        multi_scale=5
        channels_last=maybe
        auto_augment=7
        auto_augment=best
        copy_paste_mode=glue
        split=nowhere
        task=segment
        task=7
        mode=train2
        freeze=true
        freeze=abc
        freeze=-1
        freeze=99999999999
        freeze=1.5
        freeze_stages=99
        freeze_stages=stages.99
        freeze_stages=
        freeze_stages=true
        freeze_stages=[1]
        freeze_stages=nowhere
        decay=nan
        decay=true
        decay=abc
        decay=[0.5]
        decay=-0.1
        decay_shape=7
        decay_shape=
        lean=perhaps
        lean=7
        lean=true
        join=7
        join=perhaps
        bfloat16=7
        bfloat16=maybe
        layer_decay=0
        layer_decay=nan
        layer_decay=abc
        backbone_lr=inf
        backbone_lr=true
        weights=nowhere.pth
        weights=
        weights=true
        weights={text}
        weights={image}
        weights={out}
        weights={best}
        weights={weights6}
        pretrained=nowhere.pt
        pretrained=7
        pretrained={text}
        pretrained={exported}
        distill_model=nowhere.pt
        distill_model=7
        distill_model={text}
        distill_model={image}
        quantize=8
        quantize=perhaps
        preset=paper
        resume=nowhere.pt
        resume=perhaps
        resume=7
        resume={text}
        resume=true
        cfg=nowhere.yaml
        cfg={image}
        cfg={out}
        cfg=7
        cfg={text}
        cfg={cfg_bad}
        classes=abc
        classes=-1
        classes=true
        classes=[0,abc]
        classes=99
        data=
        data=7
        data=nowhere.yaml
        data=[]
        model=
        model=7
        model={text}
        model={image}
        model={out}
        model={long}
        model={exported}
        project={text}
        project={text}/below
        project=/proc/nowhere
        project=/dev/full
        project={long}
        project=
        name={long}
        name=
        name=/proc/x
        name=a\\0b
        exist_ok=1
        exist_ok=perhaps
        epohcs=3
        =3
        epochs
        max_det=0
        conf=2
        iou=nan
        optimizer=[SGD]
        verbose=loud
        plots=7
        profile=7
        dropout=2
        erasing=-1
        augmentations=7
        save_dir={text}/below
        save_dir=7
        trainer=7
        """,
    "classify": """
        imgsz=abc
        epochs=true
        data={text}
        data={data}
        preset=papr
        preset=7
        lean=max
        erasing=nan
        dropout=true
        weights=nowhere.pth
        weights={weights6}
        auto_augment=none2
        mixup=2
        label_smoothing=7
        """,
    "val": """
        conf=nan
        conf=2
        conf=-1
        conf=abc
        iou=5
        iou=true
        imgsz=abc
        imgsz=-64
        imgsz=none
        batch=0
        batch=1000000000
        batch=true
        split=nowhere
        split=7
        max_det=0
        max_det=abc
        max_det=1000000000000
        classes=[a]
        device=99
        plots=maybe
        save_json=7
        augment=7
        half=maybe
        int8=7
        quantize=99
        workers=-1
        workers=1000000
        data=nowhere.yaml
        data={text}
        model=nowhere.pt
        model={torn}
        model={empty}
        model={state}
        project={text}
        project=/proc/nowhere
        name={long}
        task=classify
        task=paint
        rect=7
        save_txt=7
        weights=nowhere.pth
        validator=7
        agnostic_nms=perhaps
        dnn=7
        """,
    "predict": """
        source=
        source=nowhere.jpg
        source={text}
        source={out}
        source={long}
        source=7.5
        source=true
        source=[]
        source=none
        conf=abc
        conf=nan
        conf=1.5
        iou=-1
        imgsz=0
        imgsz=abc
        imgsz=[0,64]
        imgsz=[64,64,64]
        imgsz=[64,abc]
        imgsz=100000000
        max_det=-1
        max_det=true
        vid_stride=0
        vid_stride=abc
        line_width=-2
        line_width=abc
        line_width=true
        classes=[-1]
        classes=1.5
        device=99
        device=perhaps
        save_txt=perhaps
        save_crop=7
        show=perhaps
        show_labels=7
        visualize=7
        augment=maybe
        embed=abc
        embed=[999]
        embed=true
        embed=[-1000]
        retina_masks=7
        stream_buffer=7
        stream=7
        half=perhaps
        tracker=nowhere.yaml
        tracker={text}
        project={text}
        project={text}/x
        project=/dev/full/x
        name={long}
        model=best
        model={torn}
        model={out}
        batch=0
        batch=abc
        nms=perhaps
        predictor=7
        colour=red
        """,
    "track": """
        tracker=nowhere.yaml
        tracker={text}
        tracker=7
        tracker=
        tracker={tracker_bad}
        persist=perhaps
        conf=abc
        source=nowhere.mp4
        vid_stride=-1
        imgsz=abc
        project={text}
        device=99
        """,
    "export": """
        format=
        format=onxn
        format=7
        format=mnn
        simplify=perhaps format=onnx
        opset=999 format=onnx
        opset=0 format=onnx
        opset=abc format=onnx
        opset=1 format=onnx
        opset=true format=onnx
        dynamic=perhaps
        dynamic=7
        nms=perhaps
        half=perhaps
        int8=perhaps data={data} format=onnx
        quantize=5
        quantize=abc
        imgsz=abc
        imgsz=0
        imgsz=[64,64,64]
        imgsz=100000000
        imgsz=true
        batch=0
        batch=1000000000
        batch=abc
        batch=1.5
        device=99
        device=abc
        device=0
        verify=perhaps
        verify=7
        source=nowhere.jpg verify=true
        source={text} verify=true
        source=7 verify=true
        split=nowhere data={data} verify=true
        split=7 data={data} verify=true
        data=nowhere.yaml
        data={text}
        data=7
        conf=0.5
        conf=2 nms=true
        iou=nan nms=true
        max_det=0 nms=true
        max_det=abc nms=true
        agnostic_nms=7 nms=true
        optimize=perhaps
        workspace=-1
        images=0 int8=true data={data} format=onnx
        images=abc int8=true data={data} format=onnx
        images=1000000000000 int8=true data={data} format=onnx
        equalize=perhaps int8=true data={data} format=onnx
        equalize=7 int8=true data={data} format=onnx
        bias_correction=perhaps int8=true data={data} format=onnx
        weight_bits=9 int8=true data={data} format=onnx
        weight_bits=true int8=true data={data} format=onnx
        keep_float=nowhere int8=true data={data} format=onnx
        keep_float=7 int8=true data={data} format=onnx
        model={exported}
        model=nowhere.pt
        model={text}
        model=
        verbose=7
        colour=red
        fraction=2
        name={long}
        """,
    "verify": """
        images=0
        images=-3
        images=abc
        images=true
        images=1.5
        images=1000000000
        images=none
        conf=nan
        conf=2
        conf=abc
        conf=true
        iou=nan
        iou=5
        iou=none
        iou=abc
        imgsz=abc
        imgsz=0
        imgsz=64
        layers=perhaps
        layers=7
        split=nowhere data={data}
        split=7 data={data}
        data=nowhere.yaml
        data=7
        source=nowhere.jpg
        source={text}
        source=7
        model=nowhere.onnx
        model={text}
        model={out}
        model={image}
        model=
        reference=nowhere.pt
        reference={text}
        reference={exported}
        reference=
        foo=1
        """,
    "collapse": """
        foo=1
        path={text}/x.pt
        path=/proc/x.pt
        path=/dev/full/x.pt
        path=x.onnx
        path={long}.pt
        path=
        path={folder_pt}
        imgsz=abc
        imgsz=0
        imgsz=true
        imgsz=1.5
        imgsz=-64
        imgsz=100000000
        imgsz=[64,64]
        source=nowhere.jpg
        source={text}
        source=7
        data=nowhere.yaml
        data={text}
        model={exported}
        model={slope0}
        model=
        model={torn}
        """,
    "convert": """
        model=nowhere.pth
        model={text}
        model={image}
        model={out}
        model={best}
        model=
        path={text}/w.safetensors
        path=/proc/w.safetensors
        path=w.onnx
        path={long}.safetensors
        path=
        path={text}
        foo=1
        """,
    "compare": """
        rounds=abc
        rounds=0
        rounds=-1
        rounds=true
        rounds=1000000000000
        rounds=none
        rounds=1.5
        seeds=abc
        seeds=-1
        seeds=1.5
        seeds=
        seeds=[]
        seeds=true
        seeds=99999999999999999999
        epochs=abc
        epochs=0
        epochs=none
        epochs=1000000000000
        imgsz=abc
        imgsz=[32,32]
        imgsz=none
        batch=abc
        batch=0
        batch=-1
        batch=none
        batch=1000000000
        backends=perhaps
        backends=7
        backends=
        models=
        models=nowhere
        models=,
        models={text}
        models=7
        data=nowhere.yaml
        data=
        data={text}
        folder={text}
        folder={text}/x
        folder=/proc/x
        folder={long}
        folder=
        folder={records_bad}
        folder={protocol_bad}
        folder={protocol_nan}
        seed=1
        project=x
        resume=true
        lr0=nan
        decay=2
        foo=1
        weights=nowhere.pth
        """,
    "ablate": """
        epochs=0
        epochs=abc
        epochs=true
        epochs=1000000000000
        batch=0
        batch=abc
        batch=1000000000000
        lr=abc
        lr=nan
        lr=-1
        lr=true
        lr=none
        lr=1e9
        weight_decay=abc
        weight_decay=nan
        weight_decay=-1
        weight_decay=inf
        decay=abc
        decay=nan
        decay=2
        width=0
        width=nan
        width=abc
        pair_init=perhaps
        pair_init=7
        configs=n9
        configs=
        configs=7
        seeds=abc
        seeds=true
        seeds=-1
        seeds=99999999999999999999
        data=nowhere
        data={text}
        data={data}
        data=
        folder={text}
        folder=/proc/x
        folder={long}
        folder=
        folder={ablate_nan}
        folder={ablate_bad}
        foo=1
        """,
    "benchmark": """
        models=
        models=nowhere
        models={text}
        models={torn}
        models=7
        rounds=0
        rounds=abc
        rounds=true
        rounds=1.5
        rounds=1000000000000
        rounds=none
        imgsz=abc
        imgsz=0
        imgsz=[32,32]
        imgsz=100000000
        imgsz=none
        backends=perhaps
        backends=7
        backends=[]
        path={text}/x.json
        path=/proc/x.json
        path={out}
        path={long}
        path=nowhere/x.json
        path=
        folder={text}
        folder=/proc/x backends=onnxruntime
        folder={text}/x backends=onnxruntime
        folder={long} backends=onnxruntime
        folder=
        folder=7.5 path=/proc/x.json
        foo=1
        """,
    "features": """
        model=nowhere.pt
        model={yaml}
        model={text}
        model=
        model={torn}
        source=nowhere.jpg
        source={text}
        source={out}
        source=
        source=7
        folder={text}
        folder=/proc/x
        folder={long}
        folder=
        imgsz=abc
        imgsz=0
        imgsz=[32,32]
        imgsz=none
        imgsz=100000000
        wanted=nowhere
        wanted=99
        wanted=true
        wanted=1.5
        wanted=[0]
        most=0
        most=-1
        most=abc
        most=true
        most=none
        most=1.5
        foo=1
        """,
    "demo": """
        epochs=0
        epochs=abc
        epochs=true
        epochs=1000000000000
        epochs=none
        epochs=1.5
        model=nowhere
        model=yolo11n
        model=
        model={text}
        model=vanillanet-5-cls
        folder={text}
        folder={text}/x
        folder=/proc/x
        folder={long}
        folder=
        foo=1
        """,
    "info": """
        imgsz=abc
        imgsz=0
        imgsz=true
        imgsz=[32,32]
        imgsz=none
        imgsz=1.5
        imgsz=nan
        imgsz=1000000000000
        model=nowhere.pt
        model={text}
        model={image}
        model={out}
        model={exported}
        model={long}
        model={torn}
        model=
        foo=1
        """,
    "yaml": """
        model=nowhere
        model={text}
        model={best}
        model={out}
        model={long}
        model=
        path={text}
        path={text}/x.yaml
        path=/proc/x.yaml
        path=nowhere/x.yaml
        path={long}
        path=
        path={out}
        foo=1
        """,
    "resume": """
        model={last_epoch}
        model={last_far}
        model={last_args}
        model={last_no_args}
        model={last_keys}
        model={last_epochs}
        model={last_optimizer}
        model={last_other}
        model={last_groups}
        model={last_lr}
        model={last_nan}
        model={last_ema}
        model={last_updates}
        model={last_imgsz}
        model={last_epoch_text}
        model={last_fitness}
        model={last_stopper}
        model={last_list}
        model={best}
        epochs=abc
        imgsz=abc
        batch=0
        """,
}
#: Run with a file-size limit of nothing, as on a full disk: refused in one line, exit code 1 or 2.
FULL = ("train", "val", "predict", "track", "export", "collapse", "convert", "compare", "ablate", "features", "demo")
#: Words of the same kinds that are right: they must not be refused.
GOOD = {
    "train": """
        epochs=1
        batch=-1
        degrees=0 shear=0 scale=[0.5,1.5]
        time=0.00001
        seed=4294967290
        cache=ram
        amp=false compile=false
        freeze_stages=stem decay=0
        classes=[0,1]
        workers=64 patience=1000000
        optimizer=lamb
        epochs=1e0 fraction=[4,2]
        """,
    "val": "conf=0.1 iou=0.5 max_det=10 split=train\nhalf=false\nsave_json=true",
    "predict": "imgsz=[32,64] line_width=2 classes=0\nembed=[2]\nsave_txt=true save_conf=true\nsave=false",
    "export": "batch=2\nimgsz=[32,64] half=false\nopset=15 format=onnx simplify=false",
    "verify": "images=1 conf=0.3\nimgsz=32",
    "collapse": "path={out}/new/x.pt\nimgsz=64",
    "info": "imgsz=96\nmodel=yolo11n-vanillanet",
    "yaml": "path={out}/y.yaml",
    "features": "wanted=0 most=1",
    "ablate": "lr=0.01 weight_decay=0",
}


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
}


def make_place(root: Path) -> dict[str, str]:
    """Make a small network, trained for an epoch of two, its data, and files that are none; return them by name."""
    import cv2
    import numpy as np
    import torch
    import yaml

    from vanillayolo import VanillaYOLO, cli
    from vanillayolo.data import make_scenes
    from vanillayolo.yolo import model_yaml
    from vanillayolo.yolo.architecture import dump_yaml

    data = make_scenes(root / "scenes", train=4, val=2, size=64, seed=1)
    small = root / "yolo11n-small.yaml"
    small.write_text(dump_yaml({**conftest.shrink(model_yaml("yolo11n-vanillanet-5"), [16, 16, 24, 32]), "nc": 3}))
    model = VanillaYOLO(small)
    settings = {"epochs": 2, "imgsz": 32, "batch": 4, "plots": False, "verbose": False, "save_period": 1, "val": False}
    model.train(data=str(data), project=str(root / "trained"), name="run", optimizer="AdamW", **settings)
    weights = root / "trained" / "run" / "weights"
    last = edited(weights / "epoch0.pt", root / "last.pt", lambda c: c["train_args"].update(epochs=3))
    slope0 = VanillaYOLO(small)
    from vanillayolo.nn import set_negative_slope

    set_negative_slope(slope0.model, 0.0)
    slope0.save(root / "slope0.pt")
    best = shutil.copy(weights / "best.pt", root / "best.pt")
    images = sorted((root / "scenes" / "images" / "val").iterdir())
    video = root / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 64))
    for path in images:
        writer.write(np.asarray(cv2.imread(str(path))))
    writer.release()
    for split in ("train", "val"):
        for i, name in enumerate(("round", "square")):
            (root / "folder" / split / name).mkdir(parents=True)
            for k in range(4):
                shutil.copy(images[(i + k) % 2], root / "folder" / split / name / f"{k}{images[0].suffix}")
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(["export", f"model={best}", "format=torchscript", "imgsz=32", "verify=false"]) == 0
    (root / "notes.txt").write_text("no network, no data, no picture\n")
    (root / "empty.pt").write_bytes(b"")
    (root / "torn.pt").write_bytes(Path(best).read_bytes()[:5000])
    torch.save({"weight": torch.zeros(2)}, root / "state.pt")
    net = torch.nn.Conv2d(3, 3, 1)
    torch.save({"model": net.state_dict()}, root / "other.pth")
    (root / "cfg_bad.yaml").write_text(yaml.safe_dump({"epochs": "many", "nonsense": 1}))
    (root / "tracker_bad.yaml").write_text(yaml.safe_dump({"tracker_type": "nowhere", "track_high_thresh": "x"}))
    (root / "folder.pt").mkdir()
    records(root)
    places = {
        "yaml": small, "data": data, "best": best, "last": last, "image": images[0], "video": video,
        "folder": root / "folder", "exported": root / "best.torchscript", "text": root / "notes.txt",
        "torn": root / "torn.pt", "empty": root / "empty.pt", "state": root / "state.pt", "slope0": root / "slope0.pt",
        "weights": root / "other.pth", "weights6": root / "other.pth", "cfg_bad": root / "cfg_bad.yaml",
        "tracker_bad": root / "tracker_bad.yaml", "folder_pt": root / "folder.pt", "long": LONG,
        **{name: root / name for name in ("records_bad", "protocol_bad", "protocol_nan", "ablate_nan", "ablate_bad")},
        **{name: edited(last, root / f"{name}.pt", edit) for name, edit in EDITS.items()},
    }  # fmt: skip
    return {name: str(path) for name, path in places.items()}


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
    names = key.lower() in line or (len(name) > 3 and name in line)
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
        return Outcome(label, "strict" if code else "good", said[-600:])
    if code == 0:
        return Outcome(label, "accepted", said[-300:])
    if left:
        return Outcome(label, "left", f"{[p.replace(str(root), '') for p in left][:6]} {said[-300:]}")
    clear = full or is_clear(said, words_of(command, case, names)[-len(case.split())])
    return Outcome(label, "refused" if clear else "unclear", said[-600:])


def cases() -> Iterator[tuple[str, str, dict[str, bool]]]:
    """Yield command, words and flags of every case."""
    for table, flags in ((BAD, {}), (GOOD, {"good": True})):
        for command, text in table.items():
            yield from ((command, line.strip(), flags) for line in text.splitlines() if line.strip())
    yield from ((command, "", {"full": True}) for command in FULL)


def run_all(root: Path, match: str = "", show: bool = False) -> list[Outcome]:
    """Make the files and run every case whose label contains ``match``."""
    from ultralytics.utils import SETTINGS

    (root / "work").mkdir(parents=True)
    SETTINGS.update(runs_dir=str(root / "runs"))
    names = make_place(root / "place")
    found = []
    for command, case, flags in cases():
        if match in f"{command} {case}":
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
    parser.add_argument("--match", default="", help="only cases whose words contain this")
    parser.add_argument("--details", type=Path, help="JSON file for every outcome")
    args = parser.parse_args()
    here, out, details = Path.cwd(), args.out, args.details
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as folder:
        outcomes = run_all(Path(folder).resolve(), args.match, show=True)
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
