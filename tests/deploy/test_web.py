"""The page in a real browser: what it finds is what Python finds, and what fails is a line on it."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ultralytics.engine.results import Results
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import process_mask, xywhr2xyxyxyxy

from vanillayolo import VanillaYOLO
from vanillayolo.deploy import export, web
from vanillayolo.deploy.formats import format_of
from vanillayolo.errors import UsageError
from vanillayolo.yolo.inference import cropped, letterbox, read_image

#: Where ``make test`` puts what npm has: the browser's driver and the library of the page.
NPM = Path(sys.prefix) / "npm"
DRIVER = NPM / "node_modules" / "playwright-core" / "index.mjs"
HERE = Path(__file__).parent
#: Of the page's contract: at the usual 0.7 no box of these scenes suppresses another.
IOU = 0.3
EXAMPLE = HERE.parents[1] / "examples" / "web_detect.mjs"


def need(*missing: tuple[str, bool]) -> None:
    for what, there in missing:
        if not there:
            pytest.skip(f"needs {what}: 'make browser' installs it where there are apt (as root), npm and a network")


@pytest.fixture(scope="module")
def cache() -> Iterator[None]:
    """The cache with the page's library in it."""
    place = NPM / "cache"
    need(
        (f"{web.PACKAGE} {web.VERSION}", (place / "web" / f"{web.PACKAGE}-{web.VERSION}").is_dir()),
        ("node", bool(shutil.which("node"))),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VANILLAYOLO_CACHE", str(place))
        yield


@pytest.fixture(scope="module")
def page(lively: Path, cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a detector whose boxes are many."""
    best = tmp_path_factory.mktemp("page") / "best.pt"
    best.write_bytes(lively.read_bytes())
    folder = export(best, format="web", imgsz=64, verify=False).path
    contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    contract["suppression"]["iou"] = IOU
    (folder / "contract.json").write_text(json.dumps(contract), encoding="utf-8")
    return folder


@pytest.fixture
def image(lively_data: Path) -> np.ndarray:
    """A scene that is resized in both directions."""
    return cv2.resize(read_image(sorted((lively_data.parent / "images" / "val").iterdir())[0]), (150, 110))


class Isolated(http.server.SimpleHTTPRequestHandler):
    """With the headers that let a page have threads."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@contextmanager
def served(folder: Path, handler: Any = http.server.SimpleHTTPRequestHandler) -> Iterator[str]:
    """Serve a folder as ``python -m http.server`` does."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def browse(folder: Path, files: dict[str, Path], scenarios: list[str], shots: Path) -> dict[str, Any]:
    """Return what the page showed, by scenario of ``browser.mjs``."""
    with served(folder) as url, served(folder, Isolated) as isolated:
        given = {"playwright": str(DRIVER), "chromium": shutil.which("chromium"), "url": url, "isolated": isolated}
        given |= {"files": {k: str(v) for k, v in files.items()}, "scenarios": scenarios, "shots": str(shots)}
        words = ["node", str(HERE / "browser.mjs"), json.dumps(given)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout)
        asked = [part.removeprefix("blob:") for part in seen.pop("asked")]
        assert [part for part in asked if not part.startswith((url, isolated))] == []
    return seen


def assert_same(objects: list[dict[str, Any]], boxes: np.ndarray) -> None:
    """Each box of either side is one of the other's: within 1 px, 0.01 of score, of the same class."""
    assert len(objects) == len(boxes) > 0
    ours = np.array([[*o["box"], o["score"], o["number"]] for o in objects])
    apart = abs(ours[:, None] - boxes) / [1, 1, 1, 1, 0.01, 0.5]
    assert apart.max(2).min(0).max() <= 1
    assert apart.max(2).min(1).max() <= 1


@pytest.mark.slow
def test_the_page_finds_what_python_finds_and_says_what_fails(page: Path, image: np.ndarray, tmp_path: Path) -> None:
    need(("chromium", bool(shutil.which("chromium"))), ("playwright-core", DRIVER.is_file()))
    assert sorted(p.name for p in page.iterdir()) == [
        *("best.onnx", "contract.json", "index.html", "ort", "page.js", "vanillayolo.js")
    ]
    files = {"picture": tmp_path / "scene.png", "broken": tmp_path / "broken.png"}
    cv2.imwrite(str(files["picture"]), image)
    files["broken"].write_bytes(b"no picture")
    files["video"] = tmp_path / "scene.webm"
    video = cv2.VideoWriter(str(files["video"]), cv2.VideoWriter.fourcc(*"VP80"), 5, image.shape[1::-1])
    for _ in range(5):
        video.write(image)
    video.release()
    scenarios = ["keyboard", "picture", "broken", "dropped", "missing", "camera", "video", "threads", "gpu"]
    seen = browse(page, files, scenarios, tmp_path)
    model = VanillaYOLO(page / "best.onnx", task="detect")
    boxes = model.predict(files["picture"], imgsz=64, iou=IOU, verbose=False)[0].boxes.data.numpy()
    lost = seen["gpu"]["lost"]  # where this Chromium has a GPU in software
    for name in ("picture", "threads", *(["gpu"] if lost else [])):  # the last after its loss
        assert_same(seen[name]["objects"], boxes)
        assert "slowest: " in seen[name]["speed"]
        assert seen[name]["error"] == ""
    assert "1 thread)" in seen["picture"]["speed"]
    assert "2 threads)" in seen["threads"]["speed"]
    assert seen["picture"]["label"] == seen["picture"]["status"]
    assert seen["broken"]["error"].startswith("broken.png: not a readable picture")
    assert seen["missing"]["error"] == seen["missing"]["later"]
    assert seen["missing"]["error"].startswith("best.onnx: missing (404)")
    assert seen["keyboard"]["names"] == ["file", "camera", "conf"]
    assert seen["dropped"]["error"] == ""
    assert seen["dropped"]["speed"]
    assert seen["camera"]["speed"]
    assert len(seen["video"]["objects"]) > 0
    assert {(tmp_path / f"{name}.png").is_file() for name in ("light", "dark")} == {True}
    if lost:
        assert seen["gpu"]["told"] == "The GPU was lost (destroyed); going on in WebAssembly."


def run_example(*words: object) -> subprocess.CompletedProcess[str]:
    command = ["node", str(EXAMPLE), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_the_example_in_node_finds_what_python_finds(page: Path, image: np.ndarray, tmp_path: Path) -> None:
    picture = tmp_path / "scene.ppm"
    cv2.imwrite(str(picture), image)
    best = tmp_path / "classifier.pt"
    shutil.copy(HERE.parent / "assets" / "0.1.0" / best.name, best)
    for folder in (page, export(best, format="web", imgsz=64, verify=False).path):
        done = run_example(folder, picture)
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines()]
        contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
        task = contract["task"]
        model = VanillaYOLO(folder / contract["file"], task=task)
        (result,) = model.predict(image, imgsz=64, iou=IOU, verbose=False)
        numbers = {name: number for number, name in result.names.items()}
        objects = [
            {"number": numbers[name], "score": float(score), "box": [float(x) for x in box]}
            for name, score, *box in rows
        ]
        if task == "detect":
            assert_same(objects, result.boxes.data.numpy())
        else:
            assert [o["number"] for o in objects] == result.probs.top5
            assert np.allclose([o["score"] for o in objects], result.probs.top5conf, atol=1e-3)
    (tmp_path / "broken.ppm").write_bytes(b"no picture")
    for words in ((folder, tmp_path / "broken.ppm"), (tmp_path / "nowhere", picture), ()):
        done = run_example(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def prepared(image: np.ndarray, task: str, tmp_path: Path) -> np.ndarray:
    """Return the input that the module makes of a BGR picture."""
    cv2.cvtColor(image, cv2.COLOR_BGR2RGBA).tofile(tmp_path / "picture")
    contract = {"contract": 1, "task": task, "input": {"layout": "NCHW", "shape": [1, 3, 64, 64]}}
    contract |= {"outputs": [{"unit": "pixels of the input"}], "preprocessing": {"margin": 114}}
    script = f"""
        import fs from 'node:fs';
        const code = fs.readFileSync({json.dumps(str(web.PAGE / "vanillayolo.js"))}, 'utf8');
        const module = await import('data:text/javascript,' + encodeURIComponent(code));
        const picture = {{ data: fs.readFileSync('picture'), width: {image.shape[1]}, height: {image.shape[0]} }};
        const contract = {json.dumps(contract)};
        fs.writeFileSync('input', new Uint8Array(module.taskOf(contract).prepare(contract, picture).data.buffer));
    """
    subprocess.run(["node", "--input-type=module", "-e", script], check=True, cwd=tmp_path, timeout=60)
    return np.fromfile(tmp_path / "input", np.float32).reshape(3, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(96, 96), (33, 200), (300, 411)])
def test_its_input_is_ours(shape: tuple[int, int], tmp_path: Path) -> None:
    need(("node", bool(shutil.which("node"))))
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for task, ours in (("detect", letterbox), ("classify", cropped)):
        apart = abs(prepared(image, task, tmp_path) - ours(image, 64)[0].numpy()) * 255
        assert apart.max() < 1.01
        assert (apart > 0.01).mean() < 0.01  # halves that OpenCV's and Pillow's integers round the other way


def of_ultralytics(result: Results, task: str) -> np.ndarray:
    """Return class, score, box and what a task has besides, a row an object, as the page tells them."""
    found = result.obb if task == "obb" else result.boxes
    parts = [found.cls[:, None], found.conf[:, None], found.xywhr if task == "obb" else found.xyxy]
    if task == "segment":
        parts.append(result.masks.data.sum((1, 2))[:, None])
    if task == "pose":
        parts.append(result.keypoints.data.flatten(1))
    return torch.cat(parts, 1).numpy()


def unambiguous(turned: np.ndarray) -> np.ndarray:
    """Return centre, extents and lean of boxes (xywhr), pixels: the same where width and height change places."""
    x, y, w, h, angle = turned.T
    cos, sin = abs(np.cos(angle)), abs(np.sin(angle))
    lean = (w - h) * np.sin(2 * angle) / 2
    return np.stack([x, y, w * cos + h * sin, w * sin + h * cos, lean], 1)


@pytest.mark.slow
def test_every_task_has_a_page(lively_other: Path, cache: None, image: np.ndarray, tmp_path: Path) -> None:
    need(("chromium", bool(shutil.which("chromium"))), ("playwright-core", DRIVER.is_file()))
    best = tmp_path / "best.pt"
    best.write_bytes(lively_other.read_bytes())
    folder = export(best, format="web", imgsz=64, verify=False).path
    contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    task = contract["task"]
    picture = {ending: tmp_path / f"scene.{ending}" for ending in ("png", "ppm")}
    for path in picture.values():
        cv2.imwrite(str(path), image)
    (result,) = VanillaYOLO(folder / "best.onnx", task=task).predict(image, imgsz=64, verbose=False)
    theirs = of_ultralytics(result, task)
    done = run_example(folder, picture["ppm"])
    assert done.returncode == 0, done.stderr
    numbers = {name: number for number, name in result.names.items()}
    words = [line.split() for line in done.stdout.splitlines()]
    in_node = np.array([[numbers[name], *map(float, rest)] for name, *rest in words])
    seen = browse(folder, {"picture": picture["png"]}, ["picture"], tmp_path)["picture"]
    assert seen["error"] == ""
    in_page = np.array([[o["number"], o["score"], *o["box"], *o["more"]] for o in seen["objects"]])
    assert len(theirs) > 3
    limits = {"segment": [3], "pose": [1, 1, 0.01] * 3, "obb": [1]}[task]
    if task == "obb":
        for rows in (theirs, in_node, in_page):
            rows[:, 2:] = unambiguous(rows[:, 2:])
    for ours in (in_node, in_page):
        assert ours.shape == theirs.shape
        apart = abs(ours[:, None] - theirs) / [0.5, 0.01, 1, 1, 1, 1, *limits]
        assert apart.max(2).min(0).max() <= 1
        assert apart.max(2).min(1).max() <= 1


def read_by_the_module(
    task: str, inside: bool, outputs: list[np.ndarray], points: list[int], folder: Path
) -> list[dict[str, Any]]:
    """Return the objects that the module reads in outputs of two classes; 96 x 64 pixels of 96 x 96 are picture."""
    contract = {
        "task": task,
        "names": {"0": "a", "1": "b"},
        "input": {"shape": [1, 3, 96, 96]},
        "outputs": [{"name": f"output{i}"} for i in range(len(outputs))],
        "suppression": {"inside": inside, "conf": 0.3, "iou": 0.4, "agnostic_nms": False, "max_det": 300},
        "key_points": points,
    }
    given = {f"output{i}": {"data": x.ravel().tolist(), "dims": x.shape} for i, x in enumerate(outputs)}
    (folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
    script = f"""
        import fs from 'node:fs';
        const code = fs.readFileSync({json.dumps(str(web.PAGE / "vanillayolo.js"))}, 'utf8');
        const {{ TASKS }} = await import('data:text/javascript,' + encodeURIComponent(code));
        const outputs = JSON.parse(fs.readFileSync('given.json'));
        for (const output of Object.values(outputs)) output.data = Float32Array.from(output.data);
        const place = {{ scale: 1, left: 0, top: 16, width: 96, height: 64 }};
        const found = TASKS[{json.dumps(task)}].read({json.dumps(contract)}, outputs, place);
        for (const {{ mask }} of found) if (mask) mask.data = Array.from(mask.data);
        console.log(JSON.stringify(found));
    """
    words = ["node", "--input-type=module", "-e", script]
    done = subprocess.run(words, check=True, cwd=folder, timeout=60, capture_output=True, text=True)
    objects: list[dict[str, Any]] = json.loads(done.stdout)
    return objects


@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True], ids=["suppressed after", "one-to-one"])
@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_what_it_reads_is_what_ultralytics_reads(task: str, inside: bool, tmp_path: Path) -> None:
    need(("node", bool(shutil.which("node"))))
    rng, number = np.random.default_rng(0), 120
    middle, sides = rng.uniform(20, 76, (2, number)), rng.uniform(8, 40, (2, number))
    scores = rng.uniform(0, 0.5, (2, number)) ** 2 * 4
    more = {"segment": rng.normal(size=(8, number)), "obb": rng.uniform(-1.5, 3, (1, number))}
    more["pose"] = np.concatenate(
        [rng.uniform(0, 96, (6, number)).reshape(3, 2, number), rng.random((3, 1, number))], 1
    )
    rest = more[task].reshape(-1, number)
    raw = np.concatenate([middle, sides, scores, rest])[None].astype(np.float32)
    protos = rng.normal(size=(1, 8, 24, 24)).astype(np.float32)
    if inside:
        box = raw[0, :4] if task == "obb" else np.concatenate([middle - sides / 2, middle + sides / 2])
        rows = np.concatenate([box, scores.max(0)[None], scores.argmax(0)[None], rest]).T
        raw = np.ascontiguousarray(rows[np.argsort(-rows[:, 4])][None], np.float32)
    outputs = [raw, protos] if task == "segment" else [raw]
    ours = read_by_the_module(task, inside, outputs, [3, 3], tmp_path)

    settings = {"nc": 2, "rotated": task == "obb", "end2end": inside}
    (theirs,) = non_max_suppression(torch.from_numpy(raw), 0.3, 0.4, **settings)
    extra = theirs[:, 6:]
    if task == "segment":
        masks = process_mask(torch.from_numpy(protos[0]), extra, theirs[:, :4], (96, 96), upsample=True)
        seen = masks.amax((1, 2)) > 0
        theirs, masks = theirs[seen], masks[seen]
        drawn = np.zeros((len(ours), 96, 96), np.uint8)
        for canvas, mask in zip(drawn, (o["mask"] for o in ours), strict=True):
            rows, columns = (slice(mask[k], mask[k] + mask[n]) for k, n in (("top", "height"), ("left", "width")))
            canvas[rows, columns] = np.array(mask["data"]).reshape(mask["height"], mask["width"])
        assert (drawn != masks.numpy()).mean() < 1e-5  # a value that is 0 but for its rounding
    assert 5 < len(ours) == len(theirs)
    assert [o["number"] for o in ours] == theirs[:, 5].tolist()
    assert np.allclose([o["score"] for o in ours], theirs[:, 4])
    moved = theirs[:, :4] - torch.tensor([0, 16, 0, 0 if task == "obb" else 16])
    if task == "obb":
        turned = torch.cat([moved, theirs[:, -1:]], 1)
        assert np.allclose([o["corners"] for o in ours], xywhr2xyxyxyxy(turned), atol=1e-3)
    else:
        limits = torch.tensor([96, 64, 96, 64])
        assert np.allclose([o["box"] for o in ours], moved.clamp(min=0).minimum(limits), atol=1e-3)
    if task == "pose":
        points = extra.reshape(-1, 3, 3) - torch.tensor([0, 16, 0])
        points[..., 1].clamp_(0, 64)
        assert np.allclose([o["points"] for o in ours], points, atol=1e-3)


def test_a_page_has_one_size_and_is_no_file_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out dynamic and batch"):
        web.check_page({"dynamic": True})
    (tmp_path / "best_web").mkdir()
    with pytest.raises(UsageError, match=r"best_web: a page; give the NAME.onnx file in it"):
        format_of(tmp_path / "best_web")


def test_without_the_package_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANILLAYOLO_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=r"YOLO_OFFLINE is set: run 'npm pack onnxruntime-web@.*tgz into "):
        web.library()
    monkeypatch.delenv("YOLO_OFFLINE")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"npm \(of Node.js\) is not installed: run"):
        web.library()
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "npm"))
    (tmp_path / "npm").write_text("#!/bin/sh\necho no such host >&2\nexit 1\n", encoding="utf-8")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(UsageError, match=r"npm failed \(no such host\): run"):
        web.library()
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / f"{web.PACKAGE}-{web.VERSION}.tgz").write_bytes(b"another")
    with pytest.raises(UsageError, match=r"not the archive of onnxruntime-web"):
        web.library()
