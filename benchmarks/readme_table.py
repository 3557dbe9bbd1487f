"""Put the figures of the benchmark files into README and docs: python benchmarks/readme_table.py [--check].

A table of theirs stands between `<!-- table: KIND -->` and `<!-- end table -->`, with the record's file where it
is not the kind's own: `<!-- table: compare compare_bccd_2026-11-24.json -->`. `compare.json` and `ablate.json` of
`vanillayolo compare` and `vanillayolo ablate` are such records as they are: copy them here under a dated name.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vanillayolo.study.ablation_report import ablation_tables, statement
from vanillayolo.study.benchmark import render, share_of_peak
from vanillayolo.study.records import spread, with_spread
from vanillayolo.study.report import accuracy_table, cost_table, latency_text, protocol_text
from vanillayolo.study.results import judged_split
from vanillayolo.tables import markdown
from vanillayolo.yolo.families import INITS

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"<!-- table: (?P<kind>\w+)(?: (?P<file>[\w.-]+))? -->\n.*?<!-- end table -->", re.S)

#: A detector of the compact family: its letter.
FAMILY = re.compile(r"yolo11([nsmlx])-vanillanet(?:-\d+)?")

PEERS = {"yolo11": "YOLO11's", "yolo26": "YOLO26's"}
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
BACKENDS = {
    "onnxruntime": "ONNX Runtime float32",
    "openvino-f32": "OpenVINO float32",
    "openvino-bf16": "OpenVINO bfloat16",
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
    return markdown([f"time as a share of {' / '.join(PEERS.values())}", *(BACKENDS[b] for b in timed)], rows)


def summary_table(record: dict[str, Any]) -> str:
    """Return one row a letter: parameters and GFLOPs of the merged network, its time as a share of its peers'."""
    size, timed = record["imgsz"], record["milliseconds"]
    header = ["model", "M parameters", f"GFLOPs at {size} px"]
    header += [f"time in {BACKENDS[b]}, share of {' / '.join(PEERS.values())}" for b in timed]
    rows = []
    for name, cells in shares(timed).items():
        merged = record["cost"][name]["merged"]
        rows.append((f"`{name}`", f"{merged['parameters'] / 1e6:.2f}", f"{merged['gflops']:.1f}", *cells))
    machine = f"{record['machine']['processor']} ({record['machine']['capability']}), {record['date']}"
    return f"{markdown(header, rows)}\n\n{machine}, medians in turns; all times: [results](docs/results.md)."


def models_table(record: dict[str, Any]) -> str:
    """Return the table of models: both forms' parameters and GFLOPs, latency of the merged one, beside its peers'."""
    timed, machine, size = record["milliseconds"], record["machine"], record["imgsz"]
    header = ["model", "M parameters, training / merged", f"GFLOPs at {size} px, training / merged"]
    header += [f"{BACKENDS[backend]}, ms" for backend in timed]
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


def compare_tables(record: dict[str, Any]) -> str:
    """Return accuracy and cost of a comparison, with its protocol and command."""
    parts = [markdown(*accuracy_table(record, judged_split(record))), markdown(*cost_table(record))]
    return "\n\n".join([*parts, protocol_text(record), f"{latency_text(record)} `{record['command']}`"])


def ablate_tables(record: dict[str, Any]) -> str:
    """Return the ablations, and which differences the seeds decide."""
    parts = [f"{title}\n\n{text}" for title, text in ablation_tables(record).items()]
    return "\n\n".join([*parts, statement(record), f"`{record['command']}`"])


FORMS = ("training form", "merged")
PUBLISHED = "yolo11n-vanillanet-5-paper"
#: What stands for a kind's own record before its first run.
PENDING = "Not measured yet."
#: Files whose int8 costs at most so many points of mAP50-95 are counted.
SMALL_COST = 0.5


def speed_table(record: dict[str, Any]) -> str:
    """Return a record of `vanillayolo benchmark`, its command, and what the published model reaches."""
    parts = [render(record)]
    if PUBLISHED in record["models"] and f"{PUBLISHED}:training" in record["models"]:
        merged, training = (record["models"][f"{PUBLISHED}{form}"]["milliseconds"] for form in ("", ":training"))
        before = training["onnxruntime"]["median"]
        float32, int8 = (before / merged[backend]["median"] for backend in ("onnxruntime", "openvino-int8"))
        share = share_of_peak(record, PUBLISHED) or 0.0
        parts.append(
            f"The published model, against its training form in ONNX Runtime float32 ({before:.0f} ms): merged, there, "
            f"{float32:.2f} times faster, at {share:.0%} of the float32 peak; merged, int8 "
            f"in OpenVINO, {int8:.1f} times faster."
        )
    load = record["machine"].get("load")
    about = "" if load is None else f", load of the machine before {load:g}"
    return "\n\n".join([*parts, f"{record['date']}{about}. `{record['command']}`"])


def int8_table(record: dict[str, Any]) -> str:
    """Return mAP50-95 of float32 and int8 files, and in how many int8 costs little."""
    formats = {"onnx int8": "ONNX Runtime int8", "openvino int8": "OpenVINO int8"}
    clipped = "onnx int8, 8-bit weights"  # shown beside, not counted: not the default
    if any(clipped in model["cases"] for model in record["models"].values()):
        formats[clipped] = "ONNX Runtime, 8-bit weights"
    rows = [
        f"| checkpoint, data | px | float32 | {' | '.join(formats.values())} | backbone convolutions in int8 |",
        f"|---|{'---:|' * (len(formats) + 3)}",
    ]
    costs, whole = [], True
    for name, model in record["models"].items():
        cases = model["cases"]
        for split in [split for split in ("test", "val", "train") if split in cases["float32"]]:
            before = 100 * cases["float32"][split]["map"]
            cells, backbone = [], []
            for case in formats:
                after = 100 * cases[case][split]["map"] if split in cases.get(case, {}) else None
                cells.append("" if after is None else f"{after:.2f} ({after - before:+.2f})")
                if after is not None and case != clipped:
                    costs.append(before - after)
                    backbone.append(cases[case]["int8_convolutions_of_the_backbone"])
            whole &= all(int8 == total == model["backbone_convolutions"] for int8, total in backbone)
            shown = ", ".join(f"{int8} of {total}" for int8, total in backbone)
            rows.append(f"| {name}, {split} | {model['imgsz']} | {before:.2f} | {' | '.join(cells)} | {shown} |")
    kept = sum(cost <= SMALL_COST for cost in costs)
    machines = {f"{m['machine']['processor']} ({m['machine']['capability']})" for m in record["models"].values()}
    every = "every" if whole else "NOT every"
    return "\n".join(
        [
            *rows,
            "",
            f"mAP50-95 in points; {kept} of {len(costs)} int8 files cost at most {SMALL_COST} points; {every} backbone "
            f"convolution is int8. {', '.join(sorted(machines))}.",
        ]
    )


def eager_table(record: dict[str, Any]) -> str:
    """Return what merging does to the time of eager PyTorch, case by case."""
    rows = ["| case | training form, ms | merged, ms | merged / training form |", "|---|---:|---:|---:|"]
    for case, row in record["milliseconds"].items():
        cells = (f"{row[f]['median']:.1f} ({row[f]['min']:.1f} to {row[f]['max']:.1f})" for f in FORMS)
        rows.append(f"| `{case}` | {' | '.join(cells)} | {row['ratio']:.2f} |")
    machine = record["machine"]
    about = (
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['versions']['torch']}, "
        f"{record['imgsz']} px, {record['date']}: median (minimum to maximum) of {record['rounds']} rounds. "
        f"`{record['command']}`"
    )
    return "\n".join([*rows, "", about])


def grouped(runs: list[dict[str, Any]], *keys: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Return runs by the values of some fields, in the order in which these first come."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(tuple(run[key] for key in keys), []).append(run)
    return groups


def about_runs(runs: list[dict[str, Any]]) -> str:
    """Return where and when runs were made, with their commands."""
    machines = {f"{r['machine']['processor']}, torch {r['machine']['versions']['torch']}" for r in runs}
    dates = " to ".join(sorted({runs[0]["date"], runs[-1]["date"]}))
    commands = " ".join(f"`{c}`" for c in dict.fromkeys(r["command"] for r in runs))
    return f"{', '.join(sorted(machines))}, one core a run, {dates}. {commands}"


def classification_table(record: dict[str, Any]) -> str:
    """Return top-1 of the last epoch over seeds, beside size and training time."""
    rows = []
    by_data = sorted(record["runs"], key=lambda run: str(run["data"]))
    for (data, model, series, pairs), runs in grouped(by_data, "data", "model", *INITS).items():
        top1 = with_spread(spread([r["top1_last_epoch"] for r in runs]), 1, 100)
        seconds = f"{statistics.median(r['training_seconds'] for r in runs):.0f}"
        begun = [start for start in (series, pairs) if start not in (None, "noise")]
        name = f"{data}: `{model}`" + (f", begun at {' and '.join(begun)}" if begun else "")
        cost = (f"{runs[0]['parameters'] / 1e6:.2f}", f"{runs[0]['gflops'] * 1e3:.1f}")
        rows.append((name, top1, len(runs), *cost, seconds))
    header = ("data: model", "top-1, %", "seeds", "M parameters", "MFLOPs", "training, s (median)")
    return f"{markdown(header, rows)}\n\n{about_runs(record['runs'])}"


def transfer_table(record: dict[str, Any]) -> str:
    """Return mAP of each way to begin, over seeds."""
    rows = []
    keys = ("data", "way", *INITS, "classifier")
    for (data, way, series, pairs, classifier), runs in grouped(record["runs"], *keys).items():
        metrics = (with_spread(spread([r[m] for r in runs]), 1, 100) for m in ("map50", "map"))
        begun = f"series {series}, pairs {pairs}" + (f"; classifier: {classifier}" if classifier else "")
        rows.append((f"{data}: {way}, begun at {begun}", *metrics, len(runs)))
    header = ("data: way", "val mAP50", "val mAP50-95", "seeds")
    return f"{markdown(header, rows)}\n\n{about_runs(record['runs'])}"


def training_table(record: dict[str, Any]) -> str:
    """Return a record of training_cost.py: a table for every image size and batch, ways of memory below each other."""
    parts = []
    for imgsz, batch in dict.fromkeys((case["imgsz"], case["batch"]) for case in record["cases"]):
        cases = [case for case in record["cases"] if (case["imgsz"], case["batch"]) == (imgsz, batch)]
        rows = {
            name + ("" if case.get("memory", "usual") == "usual" else ", memory kept"): row
            for case in cases
            for name, row in case["configs"].items()
        }
        first = next((name for name, row in rows.items() if "seconds" in row), None)
        base = statistics.median(rows[first]["seconds"]) if first else 0.0
        lines = []
        for name, row in rows.items():
            if "skipped" in row:
                lines.append((name, row["skipped"], "", "", ""))
                continue
            times = row["seconds"]
            median = statistics.median(times)
            seconds = f"{median:.2f} ({min(times):.2f} to {max(times):.2f})"
            kept, peak = row["kept_bytes"] / 1e6 / batch, row["peak_bytes"] / 1e6
            lines.append((name, seconds, f"{median / base:.2f}", f"{kept:.0f}", f"{peak:.0f}"))
        header = ("", "s per step (min to max)", f"of {first}", "kept, MB per image", "peak, MB")
        parts.append(f"{record['model']}, {imgsz} px, batch {batch}:\n\n{markdown(header, lines)}")
    machine = record["machine"]
    about = (
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['versions']['torch']}, {record['date']}."
    )
    return "\n\n".join([*parts, f"{about} `{record['command']}`"])


def settings_table(record: dict[str, Any]) -> str:
    """Return what training settings do to accuracy and time; differences are to the first, seed by seed."""
    rows = []
    ways = {label: way["seeds"] for label, way in record["ways"].items()}
    first = next(iter(ways.values()))
    for label, seeds in ways.items():
        cells: list[str] = [
            with_spread(spread([run[split][metric] for run in seeds.values()]), 1, 100)
            for split in ("val", "test")
            for metric in ("map50", "map50_95")
        ]
        shared = [s for s in seeds if s in first]
        gains = [100 * (seeds[s]["val"]["map50_95"] - first[s]["val"]["map50_95"]) for s in shared]
        cells.append("" if seeds is first or not gains else f"{statistics.fmean(gains):+.1f}")
        cells.append(f"{statistics.median(run['training_seconds'] for run in seeds.values()):.0f}")
        rows.append((label, *cells, len(seeds)))
    header = ("", "val mAP50", "val mAP50-95", "test mAP50", "test mAP50-95", "val, same seeds", "training, s", "seeds")
    machine = record["machine"]
    shared_keys = record["ways"][next(iter(ways))]["settings"]
    words = " ".join(f"{k}={shared_keys[k]}" for k in ("data", "epochs", "imgsz", "batch"))
    about = (
        f"`{record['model']}`, {words}, mean ± standard deviation, one core a run ({machine['processor']}, torch "
        f"{machine['versions']['torch']}, {record['date']}; shared, so that seconds are to be read as ratios). "
        f"`{record['command']}`"
    )
    return f"{markdown(header, rows)}\n\n{about}"


def coco128_table(record: dict[str, Any]) -> str:
    """Return every class of COCO128 beside the published figures: both memorise the images they are validated on."""
    stages, theirs, machine = record["stages"], record["published"], record["machine"]
    last = {stage["imgsz"]: stage["figures"] for stage in stages.values()}  # of the stages of a size
    rows = []
    for name in {**theirs, **next(iter(last.values()))}:
        counts = [f"{theirs[name][key]:.0f}" if name in theirs else "" for key in ("images", "instances")]
        sides = [theirs, *last.values()]
        cells = [f"{side[name][m]:.3f}" if name in side else "" for m in ("map50", "map50_95") for side in sides]
        rows.append((name, *counts, *cells))
    sizes = [f"{size} px" for size in last]
    header = ["class", "images", "boxes"]
    header += [f"{metric} {side}" for metric in ("mAP50", "mAP50-95") for side in ("published, 640 px", *sizes)]
    trained = ", then ".join(
        f"{record['settings']['stages'][name]['epochs']} epochs at {stage['imgsz']} px "
        f"({stage['cost']['merged']['gflops']:.2f} merged GFLOPs, {stage['training_seconds'] / 60:.0f} minutes)"
        for name, stage in stages.items()
    )
    about = (
        f"`{record['model']}`, {trained}; {machine['cores']} core(s) of {machine['processor']}, "
        f"torch {machine['versions']['torch']}, {record['date']}. `{record['command']}`"
    )
    return f"{markdown(header, rows)}\n\n{about}"


#: What makes the table of a kind, and the kind's own file where it has one.
KINDS: dict[str, tuple[Callable[[dict[str, Any]], str], str | None]] = {
    "summary": (summary_table, None),
    "models": (models_table, "family_latency.json"),
    "compare": (compare_tables, None),
    "ablate": (ablate_tables, None),
    "eager": (eager_table, "eager.json"),
    "speed": (speed_table, "speed.json"),
    "int8": (int8_table, "int8.json"),
    "classification": (classification_table, "classification.json"),
    "transfer": (transfer_table, "transfer.json"),
    "training": (training_table, None),
    "settings": (settings_table, "training_settings.json"),
    "coco128": (coco128_table, "coco128.json"),
}


def table(match: re.Match[str], folder: Path) -> str:
    """Return one table, made anew, between its marks."""
    if match["kind"] not in KINDS:
        raise SystemExit(f"table {match['kind']!r}: known are {', '.join(KINDS)}")
    make, own = KINDS[match["kind"]]
    file = match["file"] or own
    mark = match[0].split("\n", 1)[0]
    if file is None or not (folder / file).is_file():
        if match["file"] or own is None:
            raise SystemExit(f"table {match['kind']}: no record {file!r} in {folder}")
        return f"{mark}\n{PENDING}\n<!-- end table -->"
    text = make(json.loads((folder / file).read_text(encoding="utf-8")))
    return f"{mark}\n{text}\n<!-- end table -->"


def rendered(text: str, folder: Path = ROOT / "benchmarks") -> str:
    """Return a document with every table made anew."""
    return MARK.sub(lambda match: table(match, folder), text)


def main() -> int:
    stale = False
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = document.read_text(encoding="utf-8")
        new = rendered(text)
        stale |= new != text
        if new != text and "--check" not in sys.argv:
            document.write_text(new, encoding="utf-8")
    return int(stale and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
