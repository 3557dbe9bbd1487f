from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vanillayolo import VanillaYOLO, cli
from vanillayolo.study.learning_curve import answer, training_pictures, write_subset
from vanillayolo.yolo.own_weights import write_weights


def point(start: str, pictures: int, mean: float) -> dict[str, Any]:
    return {"start": start, "pictures": pictures, "map50_95": {"mean": mean}}


def test_parts_are_nested_and_equally_long(scenes: Path, tmp_path: Path) -> None:
    pictures = training_pictures(str(scenes))
    assert len(pictures) == 8
    parts = {}
    for size in (2, 3, 8):
        data = yaml.safe_load(write_subset(tmp_path, str(scenes), pictures, 1, size, 8).read_text(encoding="utf-8"))
        listed = Path(data["train"]).read_text(encoding="utf-8").splitlines()
        assert len(listed) == 8
        parts[size] = set(listed)
    assert [len(part) for part in parts.values()] == [2, 3, 8]
    assert parts[2] < parts[3] < parts[8]


def test_the_answer_is_plain() -> None:
    points = [point("noise", 25, 0.1), point("noise", 50, 0.2), point("weights", 25, 0.15), point("weights", 50, 0.3)]
    assert answer(points).splitlines() == [
        "25 pictures from weights give 0.150, as much as 50 from noise.",
        "50 pictures from weights give 0.300, more than any number here from noise.",
        "From 25 to 50 pictures mAP50-95 changes by +0.150: more pictures will help.",
    ]
    assert answer([point("noise", 25, 0.2), point("noise", 50, 0.205)]).endswith("more of the same will hardly help.")


@pytest.mark.slow
def test_from_the_command_line_to_the_table(
    scenes: Path, tiny_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_weights(tmp_path / "w.safetensors", VanillaYOLO(tiny_yaml).model, {"pictures": 1})
    folder = tmp_path / "out"
    words = ["learning-curve", f"data={scenes}", f"model={tiny_yaml}", "seeds=0", f"folder={folder}", "imgsz=64"]
    words += [f"pretrained={tmp_path / 'w.safetensors'}", "epochs=1", "batch=4"]
    assert cli.main([*words, "sizes=2,9"]) == 2
    assert "has 8 training pictures" in capsys.readouterr().err
    assert not folder.exists()
    assert cli.main([*words[:2], "model=best.pt", *words[3:], "sizes=2"]) == 2
    assert "a checkpoint is what pretrained= takes" in capsys.readouterr().err
    for other, told in ((tiny_yaml, "give a checkpoint"), (tmp_path / "gone.pt", "pretrained=.*: no such file")):
        assert cli.main([*words[:-3], f"pretrained={other}", "epochs=1", "batch=4", "sizes=2"]) == 2
        assert re.search(told, capsys.readouterr().err)
        assert not folder.exists()
    card = tmp_path / "w.json"
    card.rename(tmp_path / "kept.json")  # noticed before the first training, which is from noise
    assert cli.main([*words, "sizes=2"]) == 2
    assert "w.safetensors" in capsys.readouterr().err
    (tmp_path / "kept.json").rename(card)
    assert cli.main([*words, "sizes=2", "classes=[99]"]) == 2
    assert "there are" in capsys.readouterr().err
    assert not folder.exists()
    assert cli.main([*words, "sizes=2,4"]) == 0
    text = capsys.readouterr().out
    other = tmp_path / "other" / "w.safetensors"  # other weights of the same name are not those of the runs there
    write_weights(other, VanillaYOLO(tiny_yaml).model, {"pictures": 1})
    assert cli.main([*words[:-3], f"pretrained={other}", "epochs=1", "batch=4", "sizes=2,4"]) == 2
    assert "'w.safetensors': '" in capsys.readouterr().err
    assert "| weights | 4 | 1 |" in text
    assert "From 2 to 4 pictures" in text
    points = json.loads((folder / "curve.json").read_text(encoding="utf-8"))["points"]
    assert [(p["start"], p["pictures"]) for p in points] == [("noise", 2), ("noise", 4), ("weights", 2), ("weights", 4)]
    assert (folder / "curve.md").read_text(encoding="utf-8").strip() in text
