"""Time networks in a browser's WebAssembly, and how a page opens: one headless Chromium, in turns.

    python benchmarks/web.py [--names NAME ...] [--imgsz 320] [--threads 1 2] [--rounds 30] [--webgpu]

A name may end in ``:half`` (float16) or, of a stock network, ``:boxes`` (its own choice of boxes inside the file).
``--webgpu`` also lists the operators that WebGPU leaves to the CPU.
Adds to benchmarks/time/web.json, or --out. Needs what ``make browser`` installs.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import cv2
from family_search import CANDIDATES, written
from runs import add_run
from ultralytics import YOLO

from vanillayolo import VanillaYOLO
from vanillayolo.data import SceneSettings, write_scenes
from vanillayolo.deploy import export
from vanillayolo.deploy.web import VERSION, library
from vanillayolo.study.latency import machine
from vanillayolo.yolo.files import write_file

HERE = Path(__file__).parent
NPM = Path(sys.prefix) / "npm"
STOCK = ("yolo11n", "yolo26n")


class Isolated(http.server.SimpleHTTPRequestHandler):
    """With the headers that let a page have threads; without a line for every file."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def onnx_of(name: str, folder: Path, imgsz: int) -> str:
    """Write a network, with its weights as they start, as ONNX: stock ones by Ultralytics' exporter, ours by ours."""
    name, _, form = name.partition(":")
    settings: dict[str, Any] = {"format": "onnx", "imgsz": imgsz, "quantize": 16 if form == "half" else None}
    settings |= {"nms": False} if form == "boxes" else {}
    place = Path(tempfile.mkdtemp(dir=folder))
    if name in STOCK:
        model = YOLO(f"{name}.yaml")
        model.model.pt_path = str(place / f"{name}.pt")
        made = Path(str(model.export(**settings, verbose=False)))
    else:
        source = written(name, str(folder)) if name in CANDIDATES and not name.startswith("yolo") else name
        made = write_file(VanillaYOLO(source).model.fuse(verbose=False), place, name, settings)
    target = folder / f"{name}{form}.onnx"
    shutil.move(made, target)
    return target.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ours = ["yolo11n-vanillanet", "yolo11n-vanillanet:half", "yolo11n-vanillanet-10"]
    parser.add_argument("--names", nargs="+", default=[*STOCK, *ours, "slim-first", "slim-first-5x5", "slim-first-3x3"])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--webgpu", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "time" / "web.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = {name: onnx_of(name, folder, given.imgsz) for name in given.names}
        VanillaYOLO("yolo11n-vanillanet").save(folder / "best.pt")
        export(folder / "best.pt", format="web", imgsz=given.imgsz, half=True, verify=False)
        shutil.copytree(library(), folder / "ort")
        (folder / "empty.html").write_text("<!doctype html>", encoding="utf-8")
        scenes = write_scenes(folder / "scenes", SceneSettings(pictures=10, size=given.imgsz), "yolo", 1)
        picture = next((Path(scenes).parent / "images" / "train").iterdir())
        cv2.imwrite(str(folder / "scene.png"), cv2.imread(str(picture)))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Isolated, directory=place))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        told = {"playwright": str(NPM / "node_modules/playwright-core/index.mjs"), "chromium": shutil.which("chromium")}
        told |= {"url": url, "page": f"{url}best_web/?backend=wasm&threads=1", "picture": str(folder / "scene.png")}
        told |= {"files": list(files.values()), "threads": given.threads, "rounds": given.rounds, "size": given.imgsz}
        told["webgpu"] = given.webgpu
        words = ["node", str(HERE / "web.mjs"), json.dumps(told)]
        seen = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        sizes = {name: (folder / file).stat().st_size for name, file in files.items()}
        server.shutdown()
    medians, fastest = (
        {
            str(threads): {name: round(pick(seen[str(threads)][file]), 1) for name, file in files.items()}
            for threads in given.threads
        }
        for pick in (statistics.median, min)
    )
    run = {"onnxruntime-web": VERSION, "chromium": seen["chromium"], "imgsz": given.imgsz, "rounds": given.rounds}
    run |= {"ms_by_threads": medians, "fastest_ms_by_threads": fastest, "file_bytes": sizes}
    if given.webgpu:
        run["left_to_the_cpu"] = {name: seen["on_cpu"][file] for name, file in files.items()}
    run |= {"page": seen["cold"], **machine()}
    add_run(given.out, run)
    opened = [(page["ms"], sum(page["bytes"].values())) for page in seen["cold"]]
    print(json.dumps([medians, fastest], indent=1), opened)


if __name__ == "__main__":
    main()
