"""Parameters, arithmetic and latency of the family beside YOLO11 and YOLO26, all in one run.

    python benchmarks/family_latency.py [--letters n s m l x] [--n yolo11n-vanillanet-10] [--imgsz 640] [--rounds 20]
        [--backends onnxruntime ...]

Writes benchmarks/time/family_latency.json, or --out; `python benchmarks/readme_table.py` puts it into the README.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo import VanillaYOLO
from vanillayolo.study.benchmark import TRAINING_FORM, subject
from vanillayolo.study.cost import both_forms
from vanillayolo.study.latency import BACKENDS, latency, supported, table
from vanillayolo.tables import markdown
from vanillayolo.valid_json import json_text
from vanillayolo.yolo.inference import stock_model, trace_onnx

OUT = Path(__file__).parent / "time" / "family_latency.json"
PUBLISHED = "yolo11n-vanillanet-5-paper"


def costs(name: str, imgsz: int) -> dict[str, Any]:
    """Return parameters and GFLOPs of a network in each of its forms."""
    model = VanillaYOLO(name).model if "vanillanet" in name else stock_model(name)
    return {form: vars(cost) for form, cost in both_forms(model, imgsz).items()}


#: A detector of the compact family: its letter.
FAMILY = re.compile(r"yolo11([nsmlx])-vanillanet(?:-(?:\d+|npu|slim))?")
PEERS = {"yolo11": "YOLO11's", "yolo26": "YOLO26's"}
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
TITLES = {
    "onnxruntime": "ONNX Runtime float32",
    "openvino-f32": "OpenVINO float32",
    "openvino-bf16": "OpenVINO bfloat16",
    "ncnn": "ncnn",
    "mnn": "MNN",
    "litert": "LiteRT",
}


def shares(timed: dict[str, Any]) -> dict[str, list[str]]:
    """Return by detector and back end its median time as a share of YOLO11's and YOLO26's of the same letter."""
    found = {}
    for name, x in ((m[0], m[1]) for m in map(FAMILY.fullmatch, next(iter(timed.values()))) if m):
        pairs = ([run[name]["median"] / run[f"{peer}{x}"]["median"] for peer in PEERS] for run in timed.values())
        found[name] = [" / ".join(f"{share:.2f}" for share in pair) for pair in pairs]
    return found


def shares_table(timed: dict[str, Any]) -> str:
    """Return the merged detectors' median time as a share of YOLO11's and YOLO26's of the same letter."""
    rows = [(f"`{name}`", *cells) for name, cells in shares(timed).items()]
    return markdown([f"time as a share of {' / '.join(PEERS.values())}", *(TITLES[b] for b in timed)], rows)


def runtimes_table(record: dict[str, Any]) -> str:
    """Return a record of `vanillayolo benchmark` as shares of YOLO11's and YOLO26's time of the same letter."""
    settings, models, machine = record["settings"], record["models"], record["machine"]
    timed = {b: {name: row["milliseconds"][b] for name, row in models.items()} for b in settings["backends"]}
    about = (
        f"{settings['imgsz']} px, threads {settings['threads']}, median of {settings['rounds']} rounds in turns, "
        f"{machine['processor']} ({machine['capability']}), {record['date']}. `{record['command']}`"
    )
    return f"{shares_table(timed)}\n\n{about}"


def summary_table(record: dict[str, Any]) -> str:
    """Return one row a letter: parameters and GFLOPs of the merged network, its time as a share of its peers'."""
    size, timed = record["imgsz"], record["milliseconds"]
    header = ["model", "M parameters", f"GFLOPs at {size} px"]
    header += [f"time in {TITLES[b]}, share of {' / '.join(PEERS.values())}" for b in timed]
    rows = []
    for name, cells in shares(timed).items():
        merged = record["cost"][name]["merged"]
        rows.append((f"`{name}`", f"{merged['parameters'] / 1e6:.2f}", f"{merged['gflops']:.1f}", *cells))
    machine = f"{record['machine']['processor']} ({record['machine']['capability']}), {record['date']}"
    return f"{markdown(header, rows)}\n\n{machine}, medians in turns; all times: [speed](docs/speed.md)."


def models_table(record: dict[str, Any]) -> str:
    """Return the table of models: both forms' parameters and GFLOPs, latency of the merged one, beside its peers'."""
    timed, machine, size = record["milliseconds"], record["machine"], record["imgsz"]
    header = ["model", "M parameters, training / merged", f"GFLOPs at {size} px, training / merged"]
    header += [f"{TITLES[backend]}, ms" for backend in timed]
    rows = []
    for name, forms in record["cost"].items():
        parameters = " / ".join(f"{form['parameters'] / 1e6:.2f}" for form in forms.values())
        gflops = " / ".join(f"{form['gflops']:.1f}" for form in forms.values())
        times = []
        for run in timed.values():
            t = run[name]
            times.append(f"{t['median']:.0f} ({t['minimum']:.0f} to {t['maximum']:.0f})")
            if (training := run.get(f"{name} (training form)")) is not None:
                times[-1] += f"; training form {training['median']:.0f}"
        rows.append((f"`{name}`", parameters, gflops, *times))
    versions = ", ".join(f"{name} {machine['versions'][key]}" for key, name in RUNTIMES.items())
    about = (
        f"{machine['processor']} ({machine['capability']}), {machine['cores']} cores, {versions}, {record['date']}: "
        f"merged, median (minimum to maximum) of {record['rounds']} rounds. `{record['command']}`"
    )
    return "\n\n".join([markdown(header, rows), shares_table(timed), about])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--letters", nargs="+", default=list("nsmlx"))
    parser.add_argument("--n", default="yolo11n-vanillanet", help="the family's network of the letter n")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--backends", nargs="+", default=supported(BACKENDS), choices=list(BACKENDS))
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    names = [name for x in given.letters for name in (f"yolo11{x}", f"yolo26{x}", f"yolo11{x}-vanillanet")]
    names = [given.n if name == "yolo11n-vanillanet" else name for name in names]
    names += [PUBLISHED]
    record: dict[str, Any] = {"date": date.today().isoformat(), "command": "python " + " ".join(sys.argv)}
    with tempfile.TemporaryDirectory() as folder:
        networks = {name: name for name in names} | {f"{PUBLISHED} (training form)": PUBLISHED + TRAINING_FORM}
        files = {
            name: trace_onnx(subject(network, given.imgsz).network, f"{folder}/{i}.onnx", given.imgsz)
            for i, (name, network) in enumerate(networks.items())
        }
        record |= latency(files, given.backends, given.imgsz, given.rounds)
    record["cost"] = {name: costs(name, given.imgsz) for name in names}
    given.out.write_text(json_text(record))
    print(table(record))


if __name__ == "__main__":
    main()
