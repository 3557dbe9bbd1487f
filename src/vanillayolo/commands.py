"""What each command does: a typed function that calls the library and prints the result."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from vanillayolo.atomic import write_whole
from vanillayolo.errors import UsageError, closest
from vanillayolo.places import check_file, check_folder
from vanillayolo.values import FLAG, check_values, checked

#: What predict and track do on the command line where nothing else is said.
SHOWN = {"save": True, "verbose": True}


def train(model: str = "yolo11n-vanillanet", task: str | None = None, **settings: Any) -> None:
    """Train: data=FILE.yaml epochs=100 imgsz=640 decay=0.33 lean=auto|off|max, and Ultralytics' keys."""
    from vanillayolo.interface import VanillaYOLO
    from vanillayolo.yolo.architecture import name_for_task
    from vanillayolo.yolo.checks import gone_on, resumable

    model = name_for_task(model, task)
    if settings.get("resume") == "auto":
        model, settings = gone_on(model, task, settings, VanillaYOLO)
        if not settings:
            return
    if settings.get("resume") is True and (model.endswith(".pt") or Path(model).is_dir()):
        model = str(resumable(Path(model), VanillaYOLO)[0])
    VanillaYOLO(model, task=task).train(**settings)


def val(model: str, task: str | None = None, weights: str | None = None, **settings: Any) -> None:
    """Validate a checkpoint or an exported file: model=best.pt data=FILE.yaml (a classifier: data=FOLDER)."""
    from vanillayolo.interface import VanillaYOLO

    VanillaYOLO(model, task=task, weights=weights).val(**settings)


def predict(
    model: str,
    source: Any = None,
    task: str | None = None,
    weights: str | None = None,
    output: str | None = None,
    workers: int | None = None,
    engine: str | None = None,
    **settings: Any,
) -> None:
    """Detect in, or classify, images, folders, videos: model=best.pt source=street.jpg [output=OUT engine=pool|ray]."""
    from vanillayolo.interface import VanillaYOLO

    if output is not None:
        from vanillayolo.bulk import predict_all

        if task is not None or weights is not None:
            raise UsageError("predict output=: takes no task= or weights=; give a checkpoint or an exported file.")
        if count := predict_all(model, source, output, workers, settings, engine or "pool"):
            print(f"\n{output}: " + ", ".join(f"{number} {what}" for what, number in count.items()))
        return
    for key, value in {"workers": workers, "engine": engine}.items():
        if value is not None:
            raise UsageError(f"predict {key}=: is for output=FOLDER; leave it out.")
    network = VanillaYOLO(model, task=task, weights=weights)
    _run_stream(network.predict(source, **{**SHOWN, **settings, "stream": True}))


def track(model: str, source: Any = None, task: str | None = None, **settings: Any) -> None:
    """Track through a video: model=best.pt source=video.mp4."""
    from vanillayolo.interface import VanillaYOLO

    check_values(settings, {"persist": FLAG})
    _run_stream(VanillaYOLO(model, task=task).track(source, **{**SHOWN, **settings, "stream": True}))


def _run_stream(results: Any) -> None:
    """Take the results one by one: a long video never lies in memory whole."""
    for _ in results:
        pass  # Ultralytics says where they are


def export(model: str, task: str | None = None, **settings: Any) -> None:
    """Export the merged network, verified: model=best.pt [format=onnx|openvino|ncnn|litert|mnn|... target=CHIP]."""
    from vanillayolo.deploy import export as run
    from vanillayolo.interface import VanillaYOLO

    print(run(VanillaYOLO(model, task=task), **settings))


@checked
def verify(
    model: str,
    reference: str,
    data: str | None = None,
    source: str | None = None,
    imgsz: Any = None,
    split: str = "val",
    images: int = 8,
    conf: float | None = None,
    iou: float | None = None,
    agnostic_nms: bool | None = None,
    layers: bool = False,
) -> None:
    """Compare a file with its checkpoint: model=best.onnx reference=best.pt [data=FILE.yaml source=... layers=True]."""
    from vanillayolo.deploy import verify as run
    from vanillayolo.deploy.contract import known_contract
    from vanillayolo.deploy.layer_report import layer_report
    from vanillayolo.deploy.proof import add_proof
    from vanillayolo.yolo.opened import open_checkpoint

    check_folder("the file's folder", Path(model).absolute().parent)  # for its record
    opened = open_checkpoint(reference, "the reference is a checkpoint (.pt)")
    result = run(model, opened, data, source, imgsz, split, images, conf, iou, agnostic_nms)
    add_proof(result, Path(model), known_contract(Path(model), result.format, opened.task))
    result.save(Path(model))
    if layers:
        files, _ = opened.images(opened.checked_data(data, (split,)) if data else None, source, images)
        print(layer_report(model, opened, files), end="\n\n")
    print(result)
    result.check(proven=True)


@checked
def prove(model: str) -> None:
    """Check a file's record again, with numpy and its runtime alone: vanillayolo prove best.onnx."""
    from vanillayolo.prove import prove as run

    print(run(model))


@checked
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

    check_keys("collapse", settings)
    print(summary(run(model, path, **settings)))


@checked
def info(model: str | None = None, imgsz: int = 640) -> None:
    """Parameters and GFLOPs of a network in both forms; without model, all names."""
    from vanillayolo.interface import VanillaYOLO
    from vanillayolo.nn import get_negative_slope
    from vanillayolo.study.cost import both_forms
    from vanillayolo.yolo import classifier_names, model_names
    from vanillayolo.yolo.architecture import SHORT_NAMES
    from vanillayolo.yolo.arguments import fitting_imgsz
    from vanillayolo.yolo.detectors import network as network_of
    from vanillayolo.yolo.tasks import TASKS

    if model is None:
        suffixes = [task.suffix for task in TASKS.values() if task.finds_boxes and task.suffix]
        others = [name + suffix for suffix in suffixes for name in SHORT_NAMES]
        print("\n".join([*model_names(), *others, *classifier_names()]))
        return
    imgsz = fitting_imgsz(imgsz)
    network: Any = network_of(VanillaYOLO(model))
    slope = get_negative_slope(network)
    print(
        f"{model}: strides {[int(s) for s in network.stride]}"
        + (f", slope {slope:g}" if slope is not None else ", merged" if getattr(network, "collapses", True) else "")
    )
    for form, cost in both_forms(network, imgsz).items():
        print(f"{form:>14}: {cost.parameters:>12,} parameters, {cost.gflops:8.2f} GFLOPs at {imgsz} px")


@checked
def yaml(model: str = "yolo11n-vanillanet", path: str | None = None) -> None:
    """Print a model's YAML to edit (or write it: path=my.yaml); an edited one is accepted wherever a name is."""
    from vanillayolo.yolo.architecture import dump_yaml, resolve

    if model.endswith(".pt"):
        raise UsageError(f"yaml model={model}: a checkpoint; give a name or a YAML ('vanillayolo info' lists names).")
    text = dump_yaml(resolve(model))
    if path is None:
        sys.stdout.write(text)
    elif Path(path).exists():
        raise UsageError(f"path={path}: exists; give another name or remove it.")
    else:
        check_file("path", path, make=False)
        print(write_whole(path, text))


def checks() -> None:
    """Print what a report of a bug needs: versions, machine, environment."""
    from vanillayolo.yolo.special import checks as run

    run()


def settings(reset: bool = False, **values: Any) -> None:
    """Print Ultralytics' settings, or change them: runs_dir=FOLDER sync=False, reset."""
    from vanillayolo.yolo.special import settings as run

    run(reset, values)


def cfg() -> None:
    """Print Ultralytics' default settings; a copy of them, edited, is given as cfg=FILE.yaml."""
    from vanillayolo.yolo.special import print_defaults

    print_defaults()


#: The function that takes the keys that a command does not name, where that is one of our own.
BEHIND = {
    "collapse": "deploy.collapse",
    "demo": "study.demo",
    "scenes": "data.scenes:SceneSettings",
    "cost": "deploy.chip_cost:cost",
    "pretrain": "study.pretrain",
    "compare": "study.protocol",
    "learning-curve": "study.learning_curve:learning_curve",
    "tune": "study.tune",
    "ablate": "study.ablate:run",
    "features": "study.features",
}


def behind(name: str) -> Any:
    """Return the function behind a command, or one without parameters where there is none."""
    if name not in BEHIND:
        return lambda: None
    module, _, function = BEHIND[name].partition(":")
    return getattr(importlib.import_module(f"vanillayolo.{module}"), function or name)


def check_keys(mode: str, settings: dict[str, Any]) -> None:
    """Raise UsageError for a key that the function behind a command does not take."""
    known = list(inspect.signature(behind(mode)).parameters)
    for key in settings:
        if key not in known:
            raise UsageError(f"{mode} has no key {key!r}: {closest(key, known)}")


def version() -> None:
    """Print the version."""
    from vanillayolo.environment import __version__

    print(__version__)
