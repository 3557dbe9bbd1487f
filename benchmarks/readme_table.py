"""Put the figures of the benchmark files into README and docs: python benchmarks/readme_table.py [--check].

A table of theirs stands between `<!-- table: KIND -->` and `<!-- end table -->`, with the record's file where it
is not the kind's own: `<!-- table: compare compare_bccd_2026-11-24.json -->`. `compare.json` and `ablate.json` of
`vanillayolo compare` and `vanillayolo ablate` are such records as they are: copy them here under a dated name.
A table of a script's record is made by a function of that script.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from vanillayolo.study.ablation_report import ablation_tables, statement
from vanillayolo.study.benchmark import render, share_of_peak
from vanillayolo.study.report import accuracy_table, cost_table, latency_text, protocol_text
from vanillayolo.study.results import judged_split
from vanillayolo.tables import markdown

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"<!-- table: (?P<kind>\w+)(?: (?P<file>[\w.-]+))? -->\n.*?<!-- end table -->", re.S)


def compare_tables(record: dict[str, Any]) -> str:
    """Return accuracy and cost of a comparison, with its protocol and command."""
    parts = [markdown(*accuracy_table(record, judged_split(record))), markdown(*cost_table(record))]
    return "\n\n".join([*parts, protocol_text(record), f"{latency_text(record)} `{record['command']}`"])


def ablate_tables(record: dict[str, Any]) -> str:
    """Return the ablations, and which differences the seeds decide."""
    parts = [f"{title}\n\n{text}" for title, text in ablation_tables(record).items()]
    return "\n\n".join([*parts, statement(record), f"`{record['command']}`"])


PUBLISHED = "yolo11n-vanillanet-5-paper"
#: What stands for a kind's own record before its first run.
PENDING = "Not measured yet."


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


#: What makes the table of a kind, as script and function, and the kind's own file where it has one.
KINDS: dict[str, tuple[str, str | None]] = {
    "models": ("family_latency:models_table", "family_latency.json"),
    "runtimes": ("family_latency:runtimes_table", "runtimes.json"),
    "ends": ("end_to_end:ends_table", "end_to_end.json"),
    "updates": ("updates:updates_table", "updates.json"),
    "summary": ("family_latency:summary_table", None),
    "compare": ("readme_table:compare_tables", None),
    "ablate": ("readme_table:ablate_tables", None),
    "eager": ("eager:eager_table", "eager.json"),
    "speed": ("readme_table:speed_table", "speed.json"),
    "int8": ("int8:int8_table", "int8.json"),
    "classification": ("classification:classification_table", "classification.json"),
    "transfer": ("transfer:transfer_table", "transfer.json"),
    "training": ("training_cost:training_table", None),
    "settings": ("training_settings:settings_table", "training_settings.json"),
    "coco128": ("coco128:coco128_table", "coco128.json"),
}


def table(match: re.Match[str], folder: Path) -> str:
    """Return one table, made anew, between its marks."""
    if match["kind"] not in KINDS:
        raise SystemExit(f"table {match['kind']!r}: known are {', '.join(KINDS)}")
    make, own = KINDS[match["kind"]]
    file = match["file"] or own
    mark = match[0].split("\n", 1)[0]
    record = next(folder.rglob(file), None) if file else None
    if record is None:
        if match["file"] or own is None:
            raise SystemExit(f"table {match['kind']}: no record {file!r} in {folder}")
        return f"{mark}\n{PENDING}\n<!-- end table -->"
    script, function = make.split(":")
    text = getattr(import_module(script), function)(json.loads(record.read_text(encoding="utf-8")))
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
