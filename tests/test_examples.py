"""The examples run alone and find what the package finds."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vanillayolo import VanillaYOLO
from vanillayolo.deploy import export
from vanillayolo.yolo.files import contract_file
from vanillayolo.yolo.inference import letterbox, raw_output, read_image, suppress

EXAMPLE = Path(__file__).parents[1] / "examples" / "onnxruntime_detect.py"


def example() -> Any:
    spec = importlib.util.spec_from_file_location("onnxruntime_detect", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "runtime"), [("onnxruntime", "onnxruntime"), ("litert", "ai_edge_litert.interpreter")]
)
def test_it_needs_three_packages(name: str, runtime: str) -> None:
    tree = ast.parse(EXAMPLE.with_name(f"{name}_detect.py").read_text(encoding="utf-8"))
    imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - set(sys.stdlib_module_names) == {"cv2", "numpy", runtime}


@pytest.mark.parametrize("shape", [(96, 96), (120, 64), (33, 200)])
def test_its_input_is_ours(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    x, _, _, _ = example().letterbox(image, 96, 96)
    assert np.array_equal(x, letterbox(image, 96).numpy())


@pytest.mark.slow
def test_it_finds_what_we_find(lively: Path, lively_data: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    best = tmp_path / "best.pt"
    best.write_bytes(lively.read_bytes())
    file = export(best, format="onnx", imgsz=64, verify=False).path
    picture = sorted((lively_data.parent / "images" / "val").iterdir())[0]
    network = VanillaYOLO(best).model.fuse(verbose=False).eval()
    image = cv2.resize(read_image(picture), (64, 64))
    # A score between two of the network's own, far from both: no rounding decides which boxes count.
    scores = np.sort(raw_output(network, letterbox(image, 64))[0, 4:].amax(0).numpy())
    middle = len(scores) // 2
    at = middle + int(np.argmax(np.diff(scores[middle:-1])))
    conf = float(scores[at : at + 2].mean())
    want = suppress(raw_output(network, letterbox(image, 64)), conf, 0.7)[0].numpy()
    got = example().detect(onnxruntime.InferenceSession(str(file)), image, conf, 0.7)
    assert len(want) > 0
    inside = want[:, :4].clip(0, 64)
    for box, score, number in zip(inside, want[:, 4], want[:, 5], strict=True):
        same = got[(got[:, 5] == number) & (abs(got[:, 4] - score) < 1e-3)]
        assert len(same) > 0
        assert abs(same[:, :4] - box).max(1).min() < 0.05  # pixels; float32 against float32
    assert abs(len(got) - len(want)) <= max(1, len(want) // 50)  # near-ties of suppression

    cv2.imwrite(str(tmp_path / "street.png"), image)
    words = [sys.executable, str(EXAMPLE), str(file), str(tmp_path / "street.png"), "--conf", str(conf)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(got) + 1
    assert (tmp_path / "street-detected.png").is_file()


@pytest.mark.slow
def test_what_it_cannot_use_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "best.onnx").write_bytes(b"no network")
    cv2.imwrite(str(tmp_path / "street.png"), np.zeros((8, 8, 3), np.uint8))
    for model, picture in (("best.onnx", "street.png"), ("best.onnx", "nowhere.png")):
        words = [sys.executable, str(EXAMPLE), model, picture]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_notebook_runs_top_to_bottom(tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    settings = {"MODEL": tiny_yaml, "PICTURES": 10, "EPOCHS": 1, "IMGSZ": 64, "FOLDER": tmp_path / "quickstart"}
    for key, value in settings.items():
        monkeypatch.setenv(f"QUICKSTART_{key}", str(value))
    monkeypatch.setenv("YOLO_AUTOINSTALL", "false")
    notebook = nbformat.read(EXAMPLE.with_name("quickstart.ipynb"), as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs are left in the notebook"
    where = {"metadata": {"path": tmp_path}}
    client.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    assert (tmp_path / "quickstart" / "deployed.pt").is_file()
    assert (tmp_path / "quickstart" / "train" / "weights" / "best.onnx").is_file()


@pytest.mark.slow
def test_a_program_in_c_finds_what_we_find(lively: Path, lively_data: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="needs openvino: pip install vanillayolo[export]")
    header = Path("/usr/include/nlohmann/json.hpp")
    if not header.is_file() or not shutil.which("g++"):
        pytest.skip("needs g++ and nlohmann-json3-dev: 'make browser' installs them where there is apt (as root)")
    place, program = Path(openvino.__file__).parent, tmp_path / "detect"
    source = EXAMPLE.with_name("openvino_detect.cpp")
    library = next((place / "libs").glob("libopenvino.so.*"))
    words = ["g++", "-std=c++17", "-O1", "-Wall", "-Werror", source, f"-I{place / 'include'}", "-o", program, library]
    subprocess.run([*words, f"-Wl,-rpath,{place / 'libs'}"], check=True, timeout=300)
    best = tmp_path / "best.pt"
    best.write_bytes(lively.read_bytes())
    image = cv2.resize(read_image(sorted((lively_data.parent / "images" / "val").iterdir())[0]), (150, 110))
    cv2.imwrite(str(tmp_path / "street.ppm"), image)
    for format in ("onnx", "openvino"):
        file = export(best, format=format, imgsz=64, verify=False).path
        (result,) = VanillaYOLO(file, task="detect").predict(image, imgsz=64, verbose=False)
        numbers = {name: number for number, name in result.names.items()}
        words = [program, contract_file(file), tmp_path / "street.ppm"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines()]
        ours = np.array([[*map(float, box), float(score), numbers[name]] for name, score, *box in rows])
        theirs = result.boxes.data.numpy()
        assert 3 < len(theirs) == len(ours)
        apart = abs(ours[:, None] - theirs) / [1, 1, 1, 1, 0.01, 0.5]
        assert max(apart.max(2).min(0).max(), apart.max(2).min(1).max()) <= 1
    (tmp_path / "broken.ppm").write_bytes(b"no picture")
    picture = tmp_path / "street.ppm"
    for given in ([contract_file(file), tmp_path / "broken.ppm"], [tmp_path / "nowhere.json", picture], []):
        done = subprocess.run([program, *given], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
