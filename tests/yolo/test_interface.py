from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import ultralytics.nn.tasks as tasks
from ultralytics import YOLO
from ultralytics.engine.exporter import Exporter

from vanillayolo import VanillaDetectionModel, VanillaYOLO
from vanillayolo.errors import CheckpointError, DataError, ModelNameError, UsageError
from vanillayolo.nn import is_merged
from vanillayolo.yolo.arguments import check_verb
from vanillayolo.yolo.trainer import VanillaTrainer

ASSETS = Path(__file__).parents[1] / "assets" / "0.1.0"


@pytest.fixture(scope="module")
def network(small_yaml: Path) -> VanillaYOLO:
    """A network for tests in which all is refused: it is built once."""
    return VanillaYOLO(small_yaml)


@pytest.mark.slow
def test_names_and_files_build(tiny_yaml: Path) -> None:
    for name in ("yolo11n-vanillanet", "yolo11n-vanillanet.yaml", str(tiny_yaml), tiny_yaml):
        assert VanillaYOLO(name).task == "detect"
    assert VanillaYOLO(VanillaYOLO(tiny_yaml)).model is not None


def test_unknown_name_hints_at_the_nearest() -> None:
    with pytest.raises(ModelNameError, match="did you mean yolo11n-vanillanet"):
        VanillaYOLO("yolo11n-vanilanet")


@pytest.mark.parametrize("damage", ["half", "noise", "empty", "missing"])
def test_damaged_checkpoint_is_one_line(damage: str, tmp_path: Path) -> None:
    path, content = tmp_path / "best.pt", (ASSETS / "detector.pt").read_bytes()
    path.write_bytes(content)
    {
        "half": lambda: path.write_bytes(content[: len(content) // 2]),
        "noise": lambda: path.write_bytes(bytes(range(256)) * 40),
        "empty": lambda: path.write_bytes(b""),
        "missing": path.unlink,
    }[damage]()
    with pytest.raises(CheckpointError) as error:
        VanillaYOLO(path)
    assert "\n" not in str(error.value)
    assert "best.pt" in str(error.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": "abc"},
        {"imgsz": 0},
        {"imgsz": 31},
        {"imgsz": [1, 2, 3]},
        {"imgsz": "big"},
        {"epohcs": 3},
        {"optimizer": 7, "lr0": "fast"},
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    bad: dict[str, Any], network: VanillaYOLO, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        network.train(data="nowhere.yaml", project=str(tmp_path / "runs"), **bad)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_missing_data_is_told_and_a_dataset_that_is_not_here_does_not_wait(network: VanillaYOLO) -> None:
    with pytest.raises(DataError, match="data is missing"):
        network.train(epochs=1)
    begin = time.monotonic()
    with pytest.raises(DataError, match="no network"):
        network.train(data="coco128.yaml", epochs=1)
    assert time.monotonic() - begin < 5


def test_labels_out_of_range_stop_a_training_before_it_begins(
    network: VanillaYOLO, scenes: Path, tmp_path: Path
) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).symlink_to(scenes.parent / kind)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [one]\n")
    with pytest.raises(DataError, match=r"class") as error:
        network.train(data=str(tmp_path / "data.yaml"), epochs=1, project=str(tmp_path / "runs"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_exported_file_that_does_not_open_is_one_line(lively_data: Path, tmp_path: Path) -> None:
    (tmp_path / "best.onnx").write_bytes(b"no network" * 100)
    model = VanillaYOLO(tmp_path / "best.onnx")
    where = {"project": str(tmp_path / "runs")}
    image = next((lively_data.parent / "images" / "val").iterdir())
    for ask in (lambda: model.val(data=str(lively_data), **where), lambda: model.predict(image, **where)):
        with pytest.raises(CheckpointError, match=r"best\.onnx: cannot be opened") as error:
            ask()
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"\.pt"):
        model.train(data=str(lively_data), **where)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, r"gives \[1, 3, 640, 640\], where \[images, 4 \+ classes, anchors\]"),
        ({"imgsz": [64, 64], "names": {0: "a"}, "task": "detect"}, r"where \[images, 4 \+ 1, anchors\]"),
        ({"imgsz": [64, 64], "channels": 5, "task": "detect"}, "cannot be opened and run"),
        ([1, 2], "not a loadable checkpoint"),
    ],
)
def test_exported_file_of_another_program_is_one_line(
    lively_data: Path, tmp_path: Path, config: object, told: str
) -> None:
    path = tmp_path / "other.torchscript"
    network = torch.jit.trace(torch.nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 8, 8))
    torch.jit.save(network, str(path), _extra_files={"config.txt": json.dumps(config)} if config else {})
    with pytest.raises(CheckpointError, match=rf"other\.torchscript: .*{told}") as error:
        VanillaYOLO(path).val(data=str(lively_data), project=str(tmp_path / "runs"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_wrong_source_is_refused(network: VanillaYOLO) -> None:
    with pytest.raises(UsageError, match="no such file"):
        network.predict("nowhere.jpg")
    with pytest.raises(UsageError, match="give rows 1 to 17, which give one map each"):
        network.embed(np.zeros((64, 64, 3), np.uint8), embed=[0])


def test_without_a_source_the_pictures_of_ultralytics_are_taken(tiny_yaml: Path, tmp_path: Path) -> None:
    results = VanillaYOLO(tiny_yaml).predict(imgsz=64, project=str(tmp_path), verbose=False)
    assert sorted(Path(result.path).name for result in results) == ["bus.jpg", "zidane.jpg"]


def test_settings_that_ultralytics_takes_beside_its_table_are_taken() -> None:
    for mode, settings in (
        ("train", {"augmentations": [], "save_dir": "here", "label_smoothing": 0.1}),
        ("predict", {"boxes": False, "line_thickness": 2, "half": True}),
    ):
        check_verb(mode, settings)


@pytest.mark.slow
def test_a_network_that_was_never_saved_is_exported_beside_us(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = VanillaYOLO(tiny_yaml)
    assert Path(Exporter(overrides={"imgsz": 64})(model=model.model)).name == "yolo11n-tiny.torchscript"
    assert VanillaDetectionModel(model.model.yaml, verbose=False).yaml_file == "vanillayolo.yaml"


def test_nothing_of_ultralytics_is_changed(tiny_yaml: Path) -> None:
    before = dict(vars(tasks))
    VanillaYOLO(tiny_yaml)
    assert vars(tasks) == before


def test_reset_weights_starts_a_new_network(tiny_yaml: Path) -> None:
    model = VanillaYOLO(tiny_yaml)
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    after = model.reset_weights().model.state_dict()
    assert before.keys() == after.keys()
    key = "model.0.stem.pair.conv1.weight"
    assert not before[key].equal(after[key])
    assert abs(float(after[key].std()) - 0.02) < 0.003  # the authors' initialisation, not torch's default


@pytest.mark.slow
def test_everything_runs_merged_and_leaves_the_network_as_it_was(
    lively: Path, lively_data: Path, tmp_path: Path
) -> None:
    where: dict[str, Any] = {"project": str(tmp_path), "verbose": False, "imgsz": 64}
    folder = lively_data.parent / "images" / "val"
    model = VanillaYOLO(lively)
    results = model.predict(folder, **where)
    assert all(len(result.boxes) > 1 for result in results)
    assert is_merged(model.predictor.model)
    video = tmp_path / "scenes.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 5, (96, 96))
    for path in sorted(folder.iterdir()):
        writer.write(np.asarray(cv2.imread(str(path))))
    writer.release()
    tracked = model.track(video, **where)
    assert len(tracked) == 4
    assert is_merged(model.predictor.model)
    assert any(result.boxes.is_track for result in tracked)
    square = model.val(data=str(lively_data), plots=False, rect=False, **where).box.map
    assert square > 0.1  # the labels are its own boxes
    assert not is_merged(model.model)
    again = VanillaYOLO(model.export(format="onnx", imgsz=64, simplify=False))
    for ours, theirs in zip(results, again.predict(folder, **where), strict=True):
        # One function in two runtimes, float32 sums in another order: boxes in pixels.
        torch.testing.assert_close(ours.boxes.data, theirs.boxes.data, atol=1e-2, rtol=0)
    assert again.val(data=str(lively_data), plots=False, **where).box.map == pytest.approx(square, abs=1e-3)
    with pytest.raises(CheckpointError, match=r"\.pt"):
        again.train(data=str(lively_data))


@pytest.mark.slow
def test_exported_backbone_is_convolution_pool_and_relu(trained: VanillaYOLO, tmp_path: Path) -> None:
    import onnx

    path = VanillaYOLO(trained.trainer.best).export(format="onnx", imgsz=64, simplify=False)
    nodes = [n for n in onnx.load(path).graph.node if n.name.startswith("/model.0/")]
    assert {n.op_type for n in nodes} - {"Constant"} == {"Conv", "MaxPool", "Relu"}


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"device": "abc"}, "device='abc'"),
        ({"optimizer": "AdamW2"}, "did you mean AdamW"),
        ({"cfg": "nowhere.yaml"}, "no such file"),
        ({"freeze": 1, "decay": 0.5}, "freeze=1"),
        ({"batch": 0}, "batch=0: give 1 or more"),
        ({"batch": -5}, "batch=-5"),
        ({"batch": 2.5}, r"batch=2\.5"),
        ({"batch": float("nan")}, "batch=nan"),
        ({"time": -1}, "time=-1"),
        ({"workers": -1}, "workers=-1"),
        ({"quantize": 16}, "training is in float"),
        ({"classes": "abc"}, "classes='abc'"),
        ({"freeze": "abc"}, "freeze='abc': give a count"),
        ({"freeze": 100}, "freeze=100: give a count of rows, 0 to 18"),
        ({"freeze": [0, 19]}, "list of rows"),
        ({"freeze": list(range(19))}, "nothing trains"),
        ({"freeze_stages": "stages.9"}, r"stages\.9"),
    ],
)
def test_settings_that_fail_late_in_ultralytics_are_refused_early(
    bad: dict[str, Any], told: str, network: VanillaYOLO, scenes: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=told) as error:
        network.train(data=str(scenes), project=str(tmp_path / "runs"), **bad)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_without_data_nothing_is_fetched_in_its_place(network: VanillaYOLO, scenes: Path, tmp_path: Path) -> None:
    for ask in (
        network.val,
        lambda: network.export(format="onnx", int8=True),
        lambda: network.export(format="openvino", quantize=8),
    ):
        with pytest.raises(DataError, match="data is missing"):
            ask()
    with pytest.raises(DataError, match=r"nowhere\.yaml"):
        network.train(data=[str(scenes), "nowhere.yaml"], project=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UsageError, match="source is missing"):
        network.predict("")


def test_missing_pretrained_weights_are_not_fetched(network: VanillaYOLO, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"yolo11n\.pt"):
        network.train(data=str(scenes), pretrained="yolo11n.pt", project=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_merged_weights_are_not_given_to_a_network_in_training_form(
    network: VanillaYOLO, scenes: Path, tmp_path: Path
) -> None:
    merged = copy.deepcopy(network)
    merged.fuse()
    merged.save(tmp_path / "merged.pt")
    for weights in (tmp_path / "merged.pt", str(tmp_path / "merged.pt"), merged.model):
        with pytest.raises(CheckpointError, match="merged"):
            network.load(weights)
    with pytest.raises(CheckpointError, match="merged"):
        network.train(data=str(scenes), pretrained=tmp_path / "merged.pt", project=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_refused_training_leaves_no_folder(
    network: VanillaYOLO, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": torch.nn.Conv2d(3, 3, 1).state_dict()}, tmp_path / "other.pth")
    where: dict[str, Any] = {"data": str(scenes), "project": str(tmp_path / "runs" / "detect"), "epochs": 1}
    with pytest.raises(CheckpointError, match=r"other\.pth: not the weights"):
        network.train(weights=tmp_path / "other.pth", **where)
    for bad in ({"classes": 99}, {"task": "classify"}):
        with pytest.raises(UsageError, match=next(iter(bad))):
            network.train(**bad, **where)

    def late(*args: Any, **kwargs: Any) -> None:
        raise UsageError("noticed when the folder was there")

    for method in ("get_dataset", "get_model", "_setup_train"):  # in the trainer's making, after it, in its work
        with monkeypatch.context() as patch:
            patch.setattr(VanillaTrainer, method, late)
            with pytest.raises(UsageError, match="noticed"):
                network.train(**where)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


@pytest.mark.parametrize("verb", ["train", "val", "predict"])
def test_a_place_that_cannot_be_written_is_told_before_any_work(
    verb: str, network: VanillaYOLO, scenes: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    image = str(next((scenes.parent / "images" / "val").iterdir()))
    settings = {"source": image, "save": True} if verb == "predict" else {"data": str(scenes)}
    for project in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere"):
        with pytest.raises(UsageError, match=r"^project=.*nothing can be written there"):
            getattr(network, verb)(project=str(project), **settings)
    assert (tmp_path / "file").read_text() == ""


def test_files_that_we_cannot_use_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    (tmp_path / "folder").mkdir()
    torch.save({"weight": torch.zeros(2)}, tmp_path / "state.pt")
    stock = YOLO("yolo11n.yaml", verbose=False)
    stock.model.task = "semantic"
    stock.save(tmp_path / "other.pt")
    told = {"notes.txt": "neither", "folder": "neither", "state.pt": "not a loadable", "other.pt": "semantic"}
    for name, reason in told.items():
        with pytest.raises(CheckpointError, match=reason) as error:
            VanillaYOLO(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_stock_weights_may_start_neck_and_head(tiny_yaml: Path, tmp_path: Path) -> None:
    YOLO("yolo11n.yaml", verbose=False).save(tmp_path / "stock.pt")
    VanillaYOLO(tiny_yaml).load(tmp_path / "stock.pt")
