"""Commands about more than one model: generated pictures, comparisons, searches, chips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vanillayolo.commands import check_keys
from vanillayolo.places import check_file, check_folder
from vanillayolo.values import checked


@checked
def benchmark(
    models: Any,
    imgsz: int = 640,
    rounds: int = 20,
    backends: Any = None,
    path: str | None = None,
    folder: Any = None,
    threads: int = 0,
) -> None:
    """Time networks side by side: models=best.pt,yolo11n [backends=openvino-int8,ncnn] [threads=1] [path=x.json]."""
    from vanillayolo.study import benchmark as study
    from vanillayolo.study.records import write_record

    if path is not None:
        check_file("path", path, make=False)
    if folder is not None:
        check_folder("folder", folder)
    listed = {
        key: [str(x) for x in (value if isinstance(value, (list, tuple)) else str(value).split(","))]
        for key, value in (("models", models), ("backends", backends or study.DEFAULT))
    }
    record = study.benchmark(listed["models"], listed["backends"], imgsz, rounds, folder, threads)
    words = {"models": listed["models"], "imgsz": imgsz, "rounds": rounds, "backends": listed["backends"]}
    words |= {"threads": threads} if threads else {}
    record["command"] = _command("benchmark", words)
    if path is not None:
        write_record(Path(path), record)
    print(study.render(record))


def cost(target: str, models: Any, imgsz: int = 320, path: str | None = None, **settings: Any) -> None:
    """Ask a chip's own compiler: target=ethos-u55-256 models=best.pt,yolo11n [imgsz=320 data=FILE.yaml path=x.json]."""
    from vanillayolo.deploy.chip_cost import cost as run
    from vanillayolo.deploy.chip_cost import render
    from vanillayolo.study.records import as_list, write_record

    check_keys("cost", settings)
    if path is not None:
        check_file("path", path, make=False)
    listed = [str(model) for model in as_list(models, "models")]
    record = run(target, listed, imgsz, **settings)
    record["command"] = _command("cost", {"target": target, "models": listed, "imgsz": imgsz, **settings})
    if path is not None:
        write_record(Path(path), record)
    print(render(record))


def demo(folder: str = "demo", **settings: Any) -> None:
    """Train, validate, collapse and predict on scenes the package makes itself (80 s on 2 cores)."""
    from vanillayolo.study.demo import demo as run

    check_keys("demo", settings)
    print(run(folder, **settings))


def scenes(folder: str, format: str = "yolo", workers: int | None = None, **settings: Any) -> None:
    """Write generated, labelled pictures: folder=OUT pictures=1000 size=160 task=detect format=yolo|coco seed=0."""
    from vanillayolo.data.scenes import SceneSettings
    from vanillayolo.data.scenes.writing import summary, write_scenes
    from vanillayolo.yolo.threads import available_cores

    check_keys("scenes", settings)
    data = write_scenes(folder, SceneSettings(**settings), format, available_cores() if workers is None else workers)
    print(summary(data))


def pretrain(model: str = "yolo11n-vanillanet", **settings: Any) -> None:
    """Make weights from generated pictures, or go on making them: model=NAME pictures=200000 imgsz=160."""
    from vanillayolo.study.pretrain import pretrain as run
    from vanillayolo.study.pretrain import summary

    print(summary(run(model, **settings)))


def compare(models: str, data: str, folder: str = "runs/compare", **settings: Any) -> None:
    """Train and measure models alike: models=yolo11n,yolo11n-vanillanet data=FILE.yaml seeds=0,1,2 epochs=60."""
    from vanillayolo.study.protocol import compare as run
    from vanillayolo.study.report import markdown_report, write_report
    from vanillayolo.study.results import gather

    root = run(models, data, folder=folder, **settings)
    command = _command("compare", {"models": models, "data": Path(data).name, **settings})
    order = models.split(",")
    files = write_report(root, command, order)
    print(markdown_report(gather(root, command, order)))
    print("\n".join(str(file) for file in files.values()))


def learning_curve(data: str, folder: str = "runs/learning-curve", **settings: Any) -> None:
    """Say how many pictures are needed: data=FILE.yaml sizes=25,50,100,200 seeds=0,1,2 [model=NAME pretrained=FILE]."""
    from vanillayolo.study.learning_curve import learning_curve as run
    from vanillayolo.study.learning_curve import report

    root = run(data, folder=folder, **settings)
    print(report(root, _command("learning-curve", {"data": Path(data).name, **settings})))


def tune(data: str, model: str = "yolo11n-vanillanet", **settings: Any) -> None:
    """Search networks and trainings: data=FILE.yaml [trials=20 latency=12ms backend=onnx|openvino space=FILE.yaml]."""
    from vanillayolo.study.tune import tune as run

    root = run(model, data, **settings)
    print((root / "tune.md").read_text(encoding="utf-8"))
    print("\n".join(str(root / name) for name in ("tune.json", "tune.md", "best.yaml") if (root / name).exists()))


def ablate(data: str, folder: str = "runs/ablate", **settings: Any) -> None:
    """Re-make the paper's ablations on 32 px images: data=FOLDER seeds=0,1,2 epochs=15 [configs=n0,n3]."""
    from vanillayolo.study.ablate import run
    from vanillayolo.study.ablation_report import write_ablation

    check_keys("ablate", settings)
    root = run(data, folder, **settings)
    files = write_ablation(root, _command("ablate", {"data": Path(data).name, **settings}))
    print(files["md"].read_text(encoding="utf-8"))
    print("\n".join(str(file) for file in files.values()))


def features(model: str, source: str, folder: str = "features", **settings: Any) -> None:
    """Picture stage maps and class attention: model=a/best.pt,b/best.pt source=IMAGES [imgsz=640] [wanted=CLASS]."""
    from vanillayolo.study.features import features as run

    check_keys("features", settings)
    print("\n".join(map(str, run(model, source, folder, **settings))))


def _command(mode: str, settings: dict[str, Any]) -> str:
    """Return a command as it is written on the command line."""
    words = {k: ",".join(map(str, v)) if isinstance(v, (list, tuple)) else v for k, v in settings.items()}
    return " ".join([f"vanillayolo {mode}", *(f"{key}={value}" for key, value in words.items())])
