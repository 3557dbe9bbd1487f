"""Put the figures of the benchmark files into the README: python benchmarks/readme_table.py [--check]."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def models_table(record: dict[str, Any]) -> str:
    """Return the table of models: both forms' parameters and GFLOPs, latency of the merged one."""
    timed = record["milliseconds"]["onnxruntime"]
    size = record["imgsz"]
    rows = [
        f"| model | M parameters, training / merged | GFLOPs at {size} px, training / merged | merged, ms |",
        "|---|---:|---:|---:|",
    ]
    for name, forms in record["cost"].items():
        parameters = " / ".join(f"{form['parameters'] / 1e6:.2f}" for form in forms.values())
        gflops = " / ".join(f"{form['gflops']:.1f}" for form in forms.values())
        t = timed[name]
        time = f"{t['median']:.0f} ({t['minimum']:.0f} to {t['maximum']:.0f})"
        if (training := timed.get(f"{name} (training form)")) is not None:
            time += f"; training form {training['median']:.0f}"
        rows.append(f"| `{name}` | {parameters} | {gflops} | {time} |")
    machine = record["machine"]
    runtime = machine["versions"]["onnxruntime"]
    rows += [
        "",
        f"{machine['processor']}, {machine['cores']} cores, ONNX Runtime {runtime}, {record['date']}: median "
        f"(minimum to maximum) of {record['rounds']} rounds. `{record['command']}`",
    ]
    return "\n".join(rows)


def rendered(text: str) -> str:
    """Return the README with every table made anew."""
    record = json.loads((ROOT / "benchmarks" / "family_latency.json").read_text())
    table = f"<!-- table: models -->\n{models_table(record)}\n<!-- end table -->"
    return re.sub(r"<!-- table: models -->.*?<!-- end table -->", lambda _: table, text, flags=re.S)


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = rendered(text)
    if "--check" in sys.argv:
        return int(new != text)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
