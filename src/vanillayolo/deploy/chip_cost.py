"""What networks cost on a chip, side by side, from the chip's own compiler: full int8, without the box decode.

Of a chip whose tool estimates no cycles but computes its int8 file here: what the file finds of what PyTorch finds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vanillayolo.data import SceneSettings, write_scenes
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.tables import markdown
from vanillayolo.values import checked
from vanillayolo.yolo.arguments import fitting_imgsz
from vanillayolo.yolo.datasets import resolve_data
from vanillayolo.yolo.detectors import network as network_of
from vanillayolo.yolo.detectors import open_detector
from vanillayolo.yolo.inference import dataset_images, image_files, letterbox, read_image
from vanillayolo.yolo.pictures import channels_of
from vanillayolo.yolo.raw_maps import Decode, with_raw_maps

from .litert import write_int8
from .rewrites import rewritten
from .simulators import CONF, simulate
from .targets import TARGETS, Target, check_target, target_row
from .vela import CUT_UP, Estimate, estimate

#: Layers printed of each network; the record holds all.
SHOWN = 6


def calibration_images(
    data: str | None, imgsz: int, count: int, split: str = "train", channels: int = 3
) -> list[Tensor]:
    """Return inputs ``[1, channels, imgsz, imgsz]``: of a split of a dataset, or of generated scenes."""
    if data is not None:
        files = dataset_images(resolve_data(data, (split,)), split)[:count]
        return [letterbox(read_image(path, channels), imgsz) for path in files]
    with tempfile.TemporaryDirectory() as folder:
        scenes = write_scenes(Path(folder) / "scenes", SceneSettings(2 * count, max(imgsz, 64), val_every=2))
        return [letterbox(read_image(path, channels), imgsz) for path in image_files(scenes.parent / "images" / split)]


def network_at(model: str) -> Any:
    """Return the network of a name, YAML or checkpoint.

    What is freshly initialised gets random BN: a signal that has died leaves scales of 0.
    """
    network: Any = network_of(open_detector(model))
    return network if model.endswith(".pt") else randomize_batchnorm(network)


def body_of(model: str) -> nn.Module:
    """Return the merged body of a name, YAML or checkpoint."""
    return with_raw_maps(network_at(model))


def cost_of(body: nn.Module, name: str, target: Target, images: Sequence[Tensor]) -> Estimate:
    """Return the estimate of a body on a target."""
    with tempfile.TemporaryDirectory() as folder:
        return estimate(write_int8(body, Path(folder) / f"{name}.tflite", images), target.arguments)


def decode_of(network: Any, imgsz: int) -> Decode:
    """Return what makes boxes and scores of the raw maps of a network's body."""
    return Decode([int(s) for s in network.stride], int(network.model[-1].reg_max), (imgsz, imgsz))


@checked
def cost(
    target: Any, models: Sequence[str], imgsz: int = 320, data: str | None = None, images: int = 8, rewrite: bool = True
) -> dict[str, Any]:
    """Ask a chip's compiler what networks cost, and return a record.

    Args:
        target: a row of :data:`vanillayolo.deploy.targets.TARGETS`.
        models: names, YAMLs or checkpoints of detectors, ours or stock.
        imgsz: side of the image, pixels; rounded up to a multiple of 32.
        data: data YAML whose training images calibrate the int8 files; generated scenes where not given. Where boxes
            are compared, they are those of its validation images.
        images: how many of each.
        rewrite: apply the target's exact rewrites; without, networks are compiled as they are.

    Raises:
        UsageError: for an unknown target, a missing package, a size that does not fit, or a file that the compiler
            refuses.
        MergeError: for a checkpoint whose slope is below 1.
    """
    imgsz = fitting_imgsz(imgsz)
    networks = {model: network_at(model) for model in models}
    bodies = {model: with_raw_maps(network) for model, network in networks.items()}
    splits = ("train", "val") if target_row(target).simulator else ("train",)
    every = {channels_of(network) for network in networks.values()}
    pictures = {n: [calibration_images(data, imgsz, images, split, n) for split in splits] for n in every}
    row = check_target(target)  # last: nobody installs packages to hear of a name that does not exist
    chosen = row if rewrite else replace(row, rewrites=())
    found = {}
    for model, body in bodies.items():
        parameters = sum(p.numel() for p in body.parameters())
        body = rewritten(body, chosen.rewrites)
        inputs, *others = pictures[channels_of(networks[model])]
        if row.simulator:
            result: Any = simulate(body, chosen, decode_of(networks[model], imgsz), inputs, *others)
        else:
            result = cost_of(body, Path(model).stem, chosen, inputs)
        found[model] = {"parameters": parameters, **result.to_dict()}
    return {
        "date": date.today().isoformat(),
        "target": target,
        "settings": {"imgsz": imgsz, "data": data and Path(data).name, "images": images},
        "rewrites": list(chosen.rewrites),
        "versions": {name: version(name) for name in (p.split(">=")[0] for p in chosen.packages)},
        "models": found,
    }


def render(record: dict[str, Any]) -> str:
    """Return a record as Markdown tables: networks, cycles by kind of operation, and the dearest layers of each."""
    if TARGETS[record["target"]].simulator:
        return render_simulated(record)
    models: dict[str, Any] = record["models"]
    first = next(iter(models.values()))
    head = ["model", "parameters", "million cycles", "share", "ms", "SRAM", "DRAM", "flash", "operations", "on CPU"]
    rows, kinds, layers, remarks = [], [], [], []
    every_kind = sorted({kind for m in models.values() for kind in m["by_kind"]})
    for name, m in models.items():
        operations = sum(layer["operations"] for layer in m["layers"])
        on_cpu = sum(layer["where"] != "NPU" for layer in m["layers"])
        memory = [f"{m[key]:,.0f}" for key in ("sram", "dram", "flash")]
        share = f"{m['cycles'] / first['cycles']:.2f}"
        row = [name, f"{m['parameters']:,}", f"{m['cycles'] / 1e6:.2f}", share, f"{m['milliseconds']:.2f}"]
        rows.append([*row, *memory, f"{operations:,}", on_cpu])
        kinds.append([name, *(f"{m['by_kind'].get(kind, 0) / 1e6:.2f}" for kind in every_kind)])
        dearest = sorted(m["layers"], key=lambda layer: -layer["cycles"])[:SHOWN]
        layers += [[name, x["name"], x["kind"], f"{x['cycles']:,.0f}", x["operations"]] for x in dearest]
        remarks += [
            f"{name}: {x['name']} ({x['kind']}) is cut into {x['operations']:,} operations."
            for x in m["layers"]
            if x["operations"] >= CUT_UP
        ]
    rewrites = ", ".join(record["rewrites"]) or "none"
    about = (
        f"{record['target']}, {first['system']}, {record['settings']['imgsz']} px, batch 1, full int8 without box "
        f"decode; share: of {next(iter(models))}'s cycles; memory: KiB; rewrites: {rewrites}; an estimate by its "
        "compiler, nothing was run on the chip."
    )
    tables = [
        markdown(head, rows),
        about,
        *remarks,
        "Million cycles by kind of operation:",
        markdown(["model", *every_kind], kinds),
        "The dearest layers:",
        markdown(["model", "layer", "kind", "cycles", "operations"], layers),
    ]
    return "\n\n".join(tables)


def render_simulated(record: dict[str, Any]) -> str:
    """Return the record of a chip whose file was computed here as a Markdown table, refusals below it."""
    models: dict[str, Any] = record["models"]
    head = ["model", "parameters", "file, KiB", "memory, KiB", "box maps, rms", "score maps, rms", "boxes found"]
    head += ["too many"]
    rows, remarks = [], []
    for name, m in models.items():
        sizes = [f"{m[key] / 1024:,.0f}" if m[key] else "" for key in ("file", "memory")]
        cells = [*sizes, f"{m['boxes_rms']:.4f}", f"{m['scores_rms']:.4f}"]
        cells += [f"{m['found']} of {m['boxes']}", str(m["extra"])]
        rows.append([name, f"{m['parameters']:,}", *(["refused"] * 6 if m["refused"] else cells)])
        remarks += [f"{name}: {record['target']}'s tool does not build it: {m['refused']}"] if m["refused"] else []
    tools = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    about = (
        f"{record['target']}, {record['settings']['imgsz']} px, batch 1, full int8 without box decode, {tools}; rms: "
        f"share of the largest value; boxes with a score of {CONF:g} beside PyTorch's, by the tool's simulator; it "
        "says no times, nothing was run on the chip."
    )
    return "\n\n".join([markdown(head, rows), about, *remarks])
