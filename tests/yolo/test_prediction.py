from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from ultralytics.models.yolo.detect import DetectionPredictor

from vanillayolo import VanillaYOLO
from vanillayolo.errors import UsageError
from vanillayolo.yolo.arguments import check_tracker
from vanillayolo.yolo.prediction import VanillaPredictor

SIZES = ((8, 6), (4, 3), (2, 2))


def marked_maps(widths: tuple[int, ...]) -> list[torch.Tensor]:
    """Maps of two images in which every channel of a cell holds the cell's number, counted through all maps."""
    starts = [0, *torch.tensor([h * w for h, w in SIZES]).cumsum(0).tolist()]
    numbers = [torch.arange(h * w).view(1, 1, h, w) + start for (h, w), start in zip(SIZES, starts, strict=False)]
    return [n.float().repeat(2, width, 1, 1) for n, width in zip(numbers, widths, strict=True)]


@pytest.mark.parametrize("widths", [(96, 128, 256), (48, 64, 128), (7, 5, 13)])
def test_an_objects_features_are_those_of_its_own_cell(widths: tuple[int, ...]) -> None:
    kept = [torch.tensor([3, 47, 50, 63]), torch.tensor([], dtype=torch.long)]
    first, second = VanillaPredictor.get_obj_feats(marked_maps(widths), kept)
    assert len(second) == 0
    assert first.shape == (4, min(widths))
    assert torch.allclose(first, kept[0].float()[:, None].expand_as(first))


def test_where_widths_are_multiples_they_are_ultralytics_own() -> None:
    maps = [torch.randn(2, width, *size) for width, size in zip((8, 16, 32), SIZES, strict=True)]
    kept = [torch.tensor([0, 50, 63]), torch.tensor([7])]
    pairs = zip(*(p.get_obj_feats(maps, kept) for p in (VanillaPredictor, DetectionPredictor)), strict=True)
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in pairs)


@pytest.fixture(scope="module")
def video(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of a scene that moves two pixels a frame."""
    path = tmp_path_factory.mktemp("video") / "moving.avi"
    image = cv2.imread(str(sorted((scenes.parent / "images" / "val").iterdir())[0]))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (image.shape[1], image.shape[0]))
    for i in range(4):
        writer.write(cv2.copyMakeBorder(image, 0, 0, 2 * i, 0, cv2.BORDER_REPLICATE)[:, : image.shape[1]])
    writer.release()
    return path


def tracker_file(folder: Path, kind: str) -> Path:
    """Ultralytics' own settings of a tracker, with appearance features from the detector."""
    from ultralytics.utils import ROOT

    text = (ROOT / "cfg" / "trackers" / f"{kind}.yaml").read_text(encoding="utf-8")
    (folder / f"{kind}.yaml").write_text(text.replace("with_reid: False", "with_reid: True"), encoding="utf-8")
    assert "with_reid: True" in (folder / f"{kind}.yaml").read_text(encoding="utf-8")
    return folder / f"{kind}.yaml"


@pytest.mark.parametrize(
    "kind", ["botsort", *(pytest.param(k, marks=pytest.mark.slow) for k in ("deepocsort", "tracktrack"))]
)
def test_trackers_with_appearance_features_follow_objects(lively: Path, video: Path, tmp_path: Path, kind: str) -> None:
    model = VanillaYOLO(lively)
    seen: list[Any] = []
    model.add_callback("on_predict_postprocess_end", lambda p: seen.append(getattr(p.results[0], "feats", None)))
    widths = [branch[0].conv.in_channels for branch in model.model.model[-1].cv2]
    assert any(width % min(widths) for width in widths)  # such widths are what this is about
    tracked = model.track(video, tracker=str(tracker_file(tmp_path, kind)), imgsz=64, verbose=False)
    numbers = [set(result.boxes.id.tolist()) for result in tracked if result.boxes.is_track]
    assert len(numbers) >= 3
    assert numbers[-1] & numbers[-2]
    assert any(f is not None and f.shape[1] == min(widths) for f in seen)


def test_appearance_features_need_a_network_that_gives_its_maps(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which an exported file does not give"):
        check_tracker(str(tracker_file(tmp_path, "botsort")), has_maps=False)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["embed", "augment", "visualize"])
def test_what_else_reads_rows_and_maps_works(lively: Path, scenes: Path, tmp_path: Path, setting: str) -> None:
    image = sorted((scenes.parent / "images" / "val").iterdir())[0]
    model = VanillaYOLO(lively)
    if setting == "embed":
        assert model.embed(image, imgsz=64)[0].shape == (model.model.model[-1].cv2[2][0].conv.in_channels,)
        assert model.embed(image, imgsz=64, embed=[1, 11])[0].ndim == 1
        with pytest.raises(UsageError, match="rows 1 to 17, which give one map each"):
            model.embed(image, imgsz=64, embed=[0])
    else:
        result = model.predict(image, imgsz=64, verbose=False, project=str(tmp_path), **{setting: True})
        assert len(result[0].boxes) > 0
