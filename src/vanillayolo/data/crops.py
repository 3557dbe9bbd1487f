"""A classification folder from a detection dataset: every box cut out, filed under its class."""

from __future__ import annotations

from pathlib import Path

from vanillayolo.errors import DataError

from .data_yaml import class_names, find_root, find_yaml, locate, read_yaml, split_entries
from .label_files import list_images, read_picture
from .paths import label_path, staged_folder


def make_crops(
    data: str | Path, folder: str | Path, margin: float = 0.1, smallest: int = 8, most: int | None = None
) -> Path:
    """Cut the boxes of a YOLO dataset's ``train`` and ``val`` images into ``folder/SPLIT/CLASS/IMAGE-N.png``.

    Args:
        data: a data YAML in YOLO layout.
        folder: where to write; refused when it holds something else.
        margin: share of the box's sides that is added around it.
        smallest: boxes with a side below so many pixels are left out.
        most: crops of one class in one split at most, taken in the images' order; all where not given.

    Returns:
        The folder, in ImageNet's layout.

    Raises:
        DataError: for a dataset that cannot be read, an image that cannot be read, a label row that is malformed, or
            a split without a usable box.
    """
    source = read_yaml(find_yaml(data))
    names = class_names(source)
    root, target = find_root(source, ("train", "val")), Path(folder).expanduser().absolute()
    with staged_folder(target, ("train", "val")) as stage:
        for split in ("train", "val"):
            owner = f"{source.file.name}: {split}"
            images = [i for entry in split_entries(source, split) for i in list_images(locate(root, entry), owner)]
            counts = dict.fromkeys(names, 0)
            for name in names:
                (stage / split / name).mkdir(parents=True)
            for image in map(Path, sorted(map(str, images))):
                _cut(image, stage / split, names, counts, (margin, smallest, most))
            if missing := [name for name, count in counts.items() if not count]:
                raise DataError(f"{owner}: no box of class {missing[0]} of {smallest} pixels or more")
    return target


def _cut(
    image: Path, folder: Path, names: list[str], counts: dict[str, int], limits: tuple[float, int, int | None]
) -> None:
    """Write the crops of one image and count them."""
    margin, smallest, most = limits
    labels = label_path(image)
    rows = labels.read_text(encoding="utf-8").splitlines() if labels.is_file() else []
    picture = read_picture(image)
    width, height = picture.size
    for number, row in enumerate(rows):
        try:
            index, x, y, w, h = (float(value) for value in row.split()[:5])
            name = names[int(index)]
        except (ValueError, IndexError) as error:
            raise DataError(f"{labels}, row {number + 1}: '{row[:60]}' is no 'class x y width height'") from error
        if min(w * width, h * height) < smallest or (most is not None and counts[name] >= most):
            continue
        half_w, half_h = w * (0.5 + margin) * width, h * (0.5 + margin) * height
        box = (x * width - half_w, y * height - half_h, x * width + half_w, y * height + half_h)
        left, top, right, bottom = (round(v) for v in box)
        crop = picture.crop((max(left, 0), max(top, 0), min(right, width), min(bottom, height)))
        crop.save(folder / name / f"{image.stem}-{number}.png")
        counts[name] += 1
