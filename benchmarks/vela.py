"""What Arm's compiler says of layers, exact rewrites and whole networks on three Ethos-U.

    python benchmarks/vela.py [--imgsz 320]

Adds what is missing in benchmarks/time/vela.json; needs the extra ``npu``. Peers go through the product's writer, as in
``vanillayolo cost``; the rest through the quick writer beside this script, which agrees with it within 2 % on
yolo11n-vanillanet-10 (the record holds both).
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vanillayolo.deploy.chip_cost import body_of, calibration_images
from vanillayolo.deploy.litert import write_int8
from vanillayolo.deploy.rewrites import REWRITES, rewritten
from vanillayolo.deploy.targets import TARGETS
from vanillayolo.deploy.vela import estimate
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.study.records import read_record, write_record
from vanillayolo.yolo import VanillaDetectionModel, model_yaml
from vanillayolo.yolo.raw_maps import with_raw_maps

OUT = Path(__file__).parent / "time" / "vela.json"
CHIPS = ("ethos-u55-256", "ethos-u65-512", "ethos-u85-512")
PEERS = ("yolo11n", "yolo26n", "yolo11n-vanillanet", "yolo11n-vanillanet-npu")
#: The network that is varied.
OURS = "yolo11n-vanillanet-10"
STEM = ("stem-in-two",)
#: The maps of yolo11n-vanillanet-10 at 320 px: side, channels.
MAPS = ((80, 64), (40, 128), (20, 256), (10, 512))
MIXED = [1, 1, 2, 2, 2, 2, 2, 2, 2]
FEW = {"act": 1, "neck": 1, "head": 1}
ONE_STAGE = ["VanillaStage", [1024, 1, 1]]
NO_STAGE_AT_4 = [2, 2, 1, 1, 1, 2, 1]


class Joined(nn.Module):
    """Two 1x1 convolutions of one map, and what becomes of both together."""

    def __init__(self, channels: int, way: str) -> None:
        super().__init__()
        self.way = way
        self.a, self.b = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.both = nn.Conv2d(2 * channels, channels, 1)
        self.one, self.other = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.down, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.a(self.down(x)), self.b(x)
        if self.way == "concatenation":
            return self.both(torch.cat([self.up(low), high], 1))
        return self.up(self.one(low)) + self.other(high)


def layers() -> Iterator[tuple[str, nn.Module, tuple[int, int, int, int]]]:
    """Give every layer that is asked for: name, module, input."""
    for side, c in MAPS:
        kinds: dict[str, nn.Module] = {"1x1": nn.Conv2d(c, c, 1)}
        kinds |= {f"depthwise {k}x{k}": nn.Conv2d(c, c, k, padding=k // 2, groups=c) for k in (1, 3, 5, 7)}
        kinds |= {f"max pool {k}x{k}": nn.MaxPool2d(k, 1, k // 2) for k in (3, 5)}
        kinds["max pool 1x5, 5x1"] = rewritten(nn.Sequential(nn.MaxPool2d(5, 1, 2)), ["pool-by-axis"])
        kinds["max pool 3x3 twice"] = rewritten(nn.Sequential(nn.MaxPool2d(5, 1, 2)), ["pool-by-threes"])
        kinds["max pool 2x2 stride 2"] = nn.MaxPool2d(2)
        kinds["upsampling by 2, nearest"] = nn.Upsample(scale_factor=2, mode="nearest")
        kinds["SiLU"] = nn.SiLU()
        for name, module in kinds.items():
            yield f"{name}, {side}x{side}x{c}", nn.Sequential(module), (1, c, side, side)
    for c in (112, 120, 128, 136, 144):
        yield f"1x1 {c} to {c}, 40x40", nn.Conv2d(c, c, 1), (1, c, 40, 40)
    for way in ("concatenation", "sum"):
        yield f"1x1 of upsampled and plain map as {way}, 40x40x128", Joined(128, way), (1, 128, 40, 40)
    stems = {
        f"{k}x{k} stride {s}": nn.Conv2d(3, 64, k, s, p) for k, s, p in ((4, 4, 0), (3, 3, 0), (3, 2, 1), (2, 2, 0))
    }
    stems |= {
        f"2x2 stride 2 twice, {c} out": nn.Sequential(nn.Conv2d(3, 12, 2, 2), nn.Conv2d(12, c, 2, 2))
        for c in (32, 48, 64)
    }
    for name, module in stems.items():
        yield f"stem {name}", module, (1, 3, 320, 320)


def variant(
    dims: list[int] | None = None,
    strides: list[int] | None = None,
    act: Any = 3,
    neck: int = 2,
    head: int = 2,
    layers: tuple[int, int] = (2, 2),
    pooling: list[Any] | None = None,
    rows: dict[int, list[Any]] | None = None,
) -> dict[str, Any]:
    """Return the YAML of yolo11n-vanillanet-10 with some of it changed.

    Args:
        dims: widths of stem and stages.
        strides: of the stages.
        act: n of the backbone's series.
        neck: n of the neck's.
        head: n of the head's.
        layers: how many layers of the box and the class branches are stages.
        pooling: module and arguments of the row that is SPPF.
        rows: arguments of rows by number.
    """
    cfg = copy.deepcopy(model_yaml(OURS))
    backbone = cfg["backbone"][0][3][0]
    backbone |= {"act_num": act, "dims": dims or backbone["dims"], "strides": strides or backbone["strides"]}
    halvings = [i for i, stride in enumerate(backbone["strides"]) if stride == 2]
    ends = [*(i - 1 for i in halvings[1:]), len(backbone["strides"]) - 1]
    for level, end in enumerate(ends):
        cfg["backbone"][1 + level][3] = [backbone["dims"][end + 1], level]
    for row in cfg["head"]:
        if row[2] == "VanillaStage":
            row[3][2] = neck
    for i, arguments in (rows or {}).items():
        cfg["head"][i - 4][3] = arguments
    if pooling:
        cfg["head"][0] = [-1, 1, *pooling]
    cfg["head_stages"] = {"box": layers[0], "class": layers[1], "act_num": head}
    return cfg


def networks() -> dict[str, dict[str, Any]]:
    """Return the arguments of :func:`variant` by name."""
    narrow = [32, 32, 128, 256, 256, 256, 256, 512, 512]
    found: dict[str, dict[str, Any]] = {"as it is": {}}
    found |= {f"n = {n} in the backbone": {"act": n} for n in (1, 2)}
    found["n = 1, 1, 2 ... in the backbone (mixed)"] = {"act": MIXED}
    found["n = 1, 1, 3 ... in the backbone"] = {"act": [1, 1, *[3] * 7]}
    found["mixed, n = 1 in the neck"] = {"act": MIXED, "neck": 1}
    found["mixed, n = 1 in the head"] = {"act": MIXED, "head": 1}
    found["mixed, n = 1 in neck and head"] = {"act": MIXED, "neck": 1, "head": 1}
    found["n = 1 everywhere"] = FEW
    found["n = 0 in the stem, else mixed"] = {"act": [0, *MIXED[1:]]}
    found["SPPF with 3x3 pools"] = {"pooling": ["SPPF", [1024, 3]]}
    found["SPPF with one pool"] = {"pooling": ["SPPF", [1024, 5, 1]]}
    found["a stage for SPPF"] = {"pooling": ONE_STAGE}
    found |= {f"stem of {c}": {"dims": [c, 64, 128, *[256] * 4, 512, 512]} for c in (32, 48)}
    found |= {f"stem and first stage of {c}": {"dims": [c, c, *narrow[2:]]} for c in (32, 48)}
    found |= {f"head stages: box {b}, class {c}": {"layers": (b, c)} for b, c in ((0, 2), (1, 1), (2, 0))}
    found["n = 1 in the head"] = {"head": 1}
    found["three stages at stride 16"] = {"dims": [64, 64, 128, *[256] * 3, 512, 512], "strides": [1, 2, 2, 1, 1, 2, 1]}
    found["one stage at stride 32"] = {"dims": [64, 64, 128, *[256] * 4, 512], "strides": [1, 2, 2, 1, 1, 1, 2]}
    found["stride 32 of 384"] = {"dims": [64, 64, 128, *[256] * 4, 384, 384]}
    found["no stage at stride 4 but the stem"] = {"dims": [64, 128, *[256] * 4, 512, 512], "strides": NO_STAGE_AT_4}
    return found | candidates()


def candidates() -> dict[str, dict[str, Any]]:
    """Return networks of few cycles: n = 1, a stage for SPPF, few channels at stride 8 unless named otherwise."""
    few = {**FEW, "pooling": ONE_STAGE}
    at_4, tail = {"strides": NO_STAGE_AT_4}, [*[256] * 4, 512, 512]
    found: dict[str, dict[str, Any]] = {
        "A: 32, 32, 96, 256 x4, 512 x2": {**few, "dims": [32, 32, 96, *tail]},
        "A, SPPF": {**FEW, "dims": [32, 32, 96, *tail]},
        "A of 128 at stride 8": {**few, "dims": [32, 32, 128, *tail]},
        "B: 32, 32, 96, 192 x4, 384 x2": {**few, "dims": [32, 32, 96, *[192] * 4, 384, 384]},
        "C: 32, 96, 256 x4, 512 x2, no stage at stride 4": {**few, **at_4, "dims": [32, 96, *tail]},
        "C, SPPF": {**FEW, **at_4, "dims": [32, 96, *tail]},
        "C, n = 1, 1, 2 ...": {**few, **at_4, "dims": [32, 96, *tail], "act": [1, 1, *[2] * 6]},
        "C, n = 1, 1, 3 ...": {**few, **at_4, "dims": [32, 96, *tail], "act": [1, 1, *[3] * 6]},
        "C, n = 3 at stride 32": {**few, **at_4, "dims": [32, 96, *tail], "act": [*[1] * 6, 3, 3]},
        "C, stem of 48": {**few, **at_4, "dims": [48, 96, *tail]},
        "C: 32, 96, 192 x4, 384 x2": {**few, **at_4, "dims": [32, 96, *[192] * 4, 384, 384]},
        "C, narrow neck": {
            **few,
            **at_4,
            "dims": [32, 96, *[192] * 4, 384, 384],
            "rows": {5: [768, 1, 1], 8: [384, 1, 1], 11: [256, 1, 1], 12: [256, 2, 1], 14: [384, 1, 1]}
            | {15: [384, 2, 1], 17: [768, 1, 1]},
        },
        "D: 32, 32, 96, 256 x3, 512 x2": {
            **few,
            "dims": [32, 32, 96, *[256] * 3, 512, 512],
            "strides": [1, 2, 2, 1, 1, 2, 1],
        },
        "F: 32, 96, 256 x2, 512 x2": {**few, "dims": [32, 96, 256, 256, 512, 512], "strides": [2, 2, 1, 2, 1]},
    }
    return found


def body(cfg: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return with_raw_maps(randomize_batchnorm(VanillaDetectionModel(cfg, verbose=False)))


def figures(file: Path) -> dict[str, Any]:
    """Return the estimates of a file on every chip, without its layers."""
    found = {}
    for chip in CHIPS:
        e = estimate(file, TARGETS[chip].arguments)
        found[chip] = {"cycles": e.cycles, "milliseconds": e.milliseconds, "sram": e.sram, "dram": e.dram}
        found[chip] |= {"flash": e.flash, "operations": sum(x.operations for x in e.layers), "by_kind": e.by_kind()}
        found[chip] |= {"on_cpu": len(e.on_cpu), "cut_up": [f"{x.kind}: {x.operations}" for x in e.cut_up]}
    return found


def line(name: str, found: dict[str, Any]) -> None:
    print(f"{name}: " + ", ".join(f"{found[chip]['cycles'] / 1e6:.3f}" for chip in CHIPS), flush=True)


def subjects(size: int, path: Path) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """Give everything that is asked for: section, name, and what makes its figures."""
    from tflite_writer import Writer  # here: the words --help need no extra

    shape = (1, 3, size, size)

    def by_product(name: str) -> dict[str, Any]:
        network = rewritten(body_of(name), STEM)
        return figures(write_int8(network, path, calibration_images(None, size, 4)))

    def quick(network: nn.Module, chosen: Sequence[str] = STEM, requantise: bool = True) -> dict[str, Any]:
        found = figures(Writer(requantise).write(rewritten(network, chosen), shape, path))
        return found | {"parameters": sum(p.numel() for p in network.parameters())}

    for name, changes in networks().items():
        yield "networks", name, lambda changes=changes: quick(body(variant(**changes)))
    tried = {f"stem-in-two, {n}": (*STEM, n) for n in REWRITES if n[:4] in ("pool", "relu")}
    for name, chosen in {"stem-in-two": STEM, **tried, "none": ()}.items():
        yield "rewrites", name, lambda chosen=chosen: quick(body(model_yaml(OURS)), chosen)
    name = "stem-in-two, both sides of a concatenation of one scale"
    yield "rewrites", name, lambda: quick(body(model_yaml(OURS)), requantise=False)
    for name in (*PEERS, OURS):
        yield "peers", name, lambda name=name: by_product(name)
    for name, module, given in layers():
        yield "layers", name, lambda module=module, given=given: figures(Writer().write(module, given, path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgsz", type=int, default=320)
    given = parser.parse_args()
    record: dict[str, Any] = read_record(OUT) if OUT.exists() else {"date": date.today().isoformat()}
    names = ("ethos-u-vela", "litert-torch", "ai-edge-quantizer", "torch", "ultralytics")
    about = {"command": "python benchmarks/vela.py --imgsz " + str(given.imgsz), "imgsz": given.imgsz}
    about |= {"versions": {name: version(name) for name in names}}
    if any(record.get(key, value) != value for key, value in about.items()):
        parser.error(f"{OUT.name} holds figures of other versions or of another size: remove it first")
    record |= about
    with tempfile.TemporaryDirectory() as folder:
        for section, name, make in subjects(given.imgsz, Path(folder) / "x.tflite"):
            found = record.setdefault(section, {})
            if name not in found:  # what an earlier run has made stays
                found[name] = make()
                write_record(OUT, record)
                line(name, found[name])


if __name__ == "__main__":
    main()
