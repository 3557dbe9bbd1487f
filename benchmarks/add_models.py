"""Add models, or further seeds of them, of another folder of runs to a record of `vanillayolo compare`.

    vanillayolo compare models=yolo26n data=bccd.yaml seeds=0,1,2 epochs=40 folder=runs/more backends=none
    vanillayolo benchmark models=yolo11n,yolo26n,yolo11n-vanillanet imgsz=320 path=times.json
    python benchmarks/add_models.py compare_A.json runs/more --command "..." --latency times.json --out compare_B.json

The settings have to be the same, but for those that have no effect on the models added. Latency holds only where all
models were timed in one run: it is taken from a record of `vanillayolo benchmark` that has every one of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vanillayolo.errors import UsageError
from vanillayolo.study.records import read_record, spread, write_record
from vanillayolo.study.results import gather
from vanillayolo.yolo.sections import TRAIN_KEYS

FOLDER = Path(__file__).parent
#: How data is loaded changes nothing but the time.
LOADING = {"workers"}


def shared(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that every model is trained with: ours are given to ours alone."""
    return {key: value for key, value in settings.items() if key not in {*TRAIN_KEYS, *LOADING}}


def with_seeds(model: dict[str, Any], further: dict[str, Any]) -> dict[str, Any]:
    """Return one model's figures over the seeds of both: exactly what one folder with all of them would give.

    A split that only some seeds were scored on is left out, as there.
    What belongs to the network (cost, bytes kept) and to the first runs (their machine) is the first one's.
    """
    share = len(further["seeds"]) / (len(model["seeds"]) + len(further["seeds"]))

    def joined(a: Any, b: Any) -> Any:
        if isinstance(a, list):
            return [*a, *b]
        if not isinstance(a, dict):
            return a
        if "values" in a:
            return spread([*a["values"], *b["values"]])
        if "low" in a:
            return {
                "mean": [round((1 - share) * x + share * y, 5) for x, y in zip(a["mean"], b["mean"], strict=False)],
                "low": list(map(min, a["low"], b["low"])),
                "high": list(map(max, a["high"], b["high"])),
            }
        return {key: joined(a[key], b[key]) for key in a if key in b}

    kept = {key: model[key] for key in ("machine", "settings", "training_form") if key in model}
    return {**joined(model, further), **kept}


def merged(
    record: dict[str, Any], added: dict[str, Any], latency: dict[str, Any] | None = None, replace: bool = False
) -> dict[str, Any]:
    """Return a record with the models of another, each with the machine that it was trained on.

    A model that is in both with other seeds is taken over all of them, and ``further`` says where these were trained.

    The record's latency stays where no other is given and every model has one: it is of networks, whatever their
    weights.

    Raises:
        UsageError: for other settings, a seed of a model that is in both, or a latency that lacks one.
    """
    if shared(record["settings"]) != shared(added["settings"]):
        raise UsageError(f"other settings: {shared(record['settings'])} and {shared(added['settings'])}.")
    models = {**record["models"]}
    for name, model in added["models"].items():
        ours = {**model, "machine": added["machine"], "settings": added["settings"]}
        if name not in models or replace:
            models[name] = ours
        elif twice := sorted(set(models[name]["seeds"]) & set(model["seeds"])):
            raise UsageError(f"seed {twice[0]} of {name} is in both: give --replace, or another folder.")
        else:
            where = {"seeds": model["seeds"], "machine": added["machine"]}
            before = models[name].get("further", [])
            models[name] = {**with_seeds(models[name], ours), "further": [*before, where]}
    result = {**record, "models": models, "command": f"{record['command']}; {added['command']}"}
    if latency is None:
        timed = (result["latency"] or {}).get("milliseconds", {})
        return result if all(models.keys() <= times.keys() for times in timed.values()) else {**result, "latency": None}
    if lacking := sorted(models.keys() - latency["models"].keys()):
        raise UsageError(f"latency: lacks {lacking[0]}.")
    settings = latency["settings"]
    times = {b: {m: latency["models"][m]["milliseconds"][b] for m in models} for b in settings["backends"]}
    about = {"date": latency["date"], "machine": latency["machine"], "command": latency["command"]}
    return {**result, "latency": {**about, **settings, "milliseconds": times}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", help="file beside this one")
    parser.add_argument("folder", type=Path, help="folder of `vanillayolo compare`")
    parser.add_argument("--command", required=True, help="the command that made the folder")
    parser.add_argument("--latency", type=Path)
    parser.add_argument("--replace", action="store_true", help="take models that are in both from the folder")
    parser.add_argument("--out", required=True, help="file beside this one")
    given = parser.parse_args()
    latency = read_record(given.latency) if given.latency else None
    added = gather(given.folder, given.command)
    write_record(FOLDER / given.out, merged(read_record(FOLDER / given.record), added, latency, given.replace))


if __name__ == "__main__":
    main()
