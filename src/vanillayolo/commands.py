"""What each command does: a typed function that calls the library and prints the result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from vanillayolo.errors import UsageError


def train(model: str = "yolo11n-vanillanet", **settings: Any) -> None:
    """Train: data=FILE.yaml epochs=100 imgsz=640 decay=0.33 lean=auto|off|max, and Ultralytics' keys."""
    from vanillayolo import VanillaYOLO

    VanillaYOLO(model).train(**settings)


def val(model: str, task: str | None = None, weights: str | None = None, **settings: Any) -> None:
    """Validate a checkpoint or an exported file: model=best.pt data=FILE.yaml (a classifier: data=FOLDER)."""
    from vanillayolo import VanillaYOLO

    VanillaYOLO(model, task=task, weights=weights).val(**settings)


def predict(
    model: str, source: Any = None, task: str | None = None, weights: str | None = None, **settings: Any
) -> None:
    """Detect in, or classify, images, folders, videos: model=best.pt source=street.jpg."""
    from vanillayolo import VanillaYOLO

    network = VanillaYOLO(model, task=task, weights=weights)
    _run_stream(network.predict(source, stream=True, **{"save": True, "verbose": True, **settings}))


def track(model: str, source: Any = None, **settings: Any) -> None:
    """Track through a video: model=best.pt source=video.mp4."""
    from vanillayolo import VanillaYOLO

    _run_stream(VanillaYOLO(model).track(source, stream=True, **{"save": True, "verbose": True, **settings}))


def _run_stream(results: Any) -> None:
    """Take the results one by one: a long video never lies in memory whole."""
    folder = None
    for result in results:
        folder = result.save_dir
    if folder:
        print(f"Results in {folder}")


def export(model: str, **settings: Any) -> None:
    """Export the merged network: model=best.pt format=onnx|openvino|torchscript|ncnn|..."""
    from vanillayolo import VanillaYOLO

    print(VanillaYOLO(model).export(**settings))


def convert(model: str, path: str | None = None) -> None:
    """Write VanillaNet weights as safetensors: model=vanillanet_6.pth [path=vanillanet_6.safetensors]."""
    from vanillayolo.nn import convert_weights

    target, form = convert_weights(model, path)
    classes = f"{form.num_classes} classes" if form.num_classes else "no classifier"
    print(f"{target}: {form.form} form, widths {list(form.dims)}, act_num {form.act_num}, {classes}")


def collapse(model: str, path: str | None = None, **settings: Any) -> None:
    """Write the merged network in stock classes, with its equality record: model=best.pt [path=deployed.pt]."""
    from vanillayolo.deploy.collapse import collapse as run
    from vanillayolo.deploy.collapse import summary

    print(summary(run(model, path, **settings)))


def info(model: str | None = None, imgsz: int = 640) -> None:
    """Parameters and GFLOPs of a network in both forms; without model, all names."""
    from torch import nn

    from vanillayolo import VanillaYOLO
    from vanillayolo.nn import get_negative_slope
    from vanillayolo.study.cost import both_forms
    from vanillayolo.yolo import classifier_names, model_names
    from vanillayolo.yolo.interface import check_imgsz

    if model is None:
        print("\n".join([*model_names(), *classifier_names()]))
        return
    check_imgsz(imgsz)
    network: Any = VanillaYOLO(model).model
    if not isinstance(network, nn.Module):
        raise UsageError(f"info model={model}: an exported file; give a name, a YAML or a checkpoint.")
    slope = get_negative_slope(network)
    described: Any = network
    strides = [int(s) for s in described.stride]
    print(f"{model}: strides {strides}, " + ("merged" if slope is None else f"slope {slope:g}"))
    for form, cost in both_forms(network, imgsz).items():
        print(f"{form:>14}: {cost.parameters:>12,} parameters, {cost.gflops:8.2f} GFLOPs at {imgsz} px")


def yaml(model: str = "yolo11n-vanillanet", path: str | None = None) -> None:
    """Print a model's YAML to edit (or write it: path=my.yaml); an edited one is accepted wherever a name is."""
    from vanillayolo.yolo.architecture import dump_yaml, resolve

    text = dump_yaml(resolve(model))
    if path is None:
        sys.stdout.write(text)
    elif Path(path).exists():
        raise UsageError(f"path={path}: exists; give another name or remove it.")
    else:
        Path(path).write_text(text, encoding="utf-8")
        print(path)


def demo(folder: str = "demo", **settings: Any) -> None:
    """Train, validate, collapse and predict on scenes the package makes itself (a few minutes on 2 cores)."""
    from vanillayolo.study.demo import demo as run

    print(run(folder, **settings))


def version() -> None:
    """Print the version."""
    from vanillayolo import __version__

    print(__version__)
