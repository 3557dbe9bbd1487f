"""Which values each setting takes: Ultralytics' own tables of types, closed where they are open, and ours."""

from __future__ import annotations

from ultralytics.cfg import CFG_BOOL_KEYS, CFG_FLOAT_KEYS, CFG_FRACTION_KEYS, CFG_INT_KEYS, CFG_INT_MIN, MODES
from ultralytics.utils import DEFAULT_CFG_DICT

from vanillayolo.nn import DeepTraining
from vanillayolo.values import (
    FLAG,
    MANY,
    NAMES,
    NONE,
    PATH,
    SEED,
    SHARE,
    SIZE,
    TEXT,
    Kind,
    is_number,
    number,
    one_of,
    several,
    whole,
)

from .sections import SECTIONS
from .tasks import TASKS

#: Keyword arguments of Ultralytics' methods that are not settings.
METHOD_KEYS = {"source", "stream", "persist", "trainer", "validator", "predictor", "half", "int8", "prompts"}
METHOD_KEYS |= {"augmentations", "save_dir"}
#: Keys of older versions of Ultralytics, which it translates, or leaves out with a warning.
METHOD_KEYS |= {"boxes", "hide_labels", "hide_conf", "line_thickness", "end2end"}
METHOD_KEYS |= {"label_smoothing", "save_hybrid", "crop_fraction", "keras"}
OPTIMIZERS = ("auto", "LAMB", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")

_ROW = whole(-1000, 1000)
_CLASS = whole(0, 100_000)
_TRANSFORM = Kind("a transform", lambda v: callable(v) or isinstance(v, dict))
_ENGINE = Kind("a class (in Python)", lambda v: v is None or callable(v))
#: Settings of Ultralytics that its own tables of types leave open, or give no end.
ULTRALYTICS: dict[str, Kind] = {
    "mode": one_of(*MODES),
    "task": one_of(*TASKS),
    "data": NAMES,
    "epochs": whole(1),
    "time": number(0, 87_600, above=True),  # ten years, in hours
    "patience": whole(0, 10**9),
    "batch": Kind(
        "1 or more (at most 65536), -1 (what fits), or a share of 1",
        lambda v: is_number(v) and (v == -1 or 0 < v < 1 or (1 <= v <= 65536 and v == int(v))),
    ),
    "imgsz": SIZE,
    "save_period": whole(-1),
    "cache": FLAG | one_of("ram", "disk"),
    "workers": whole(0, 1024),
    "project": PATH,
    "name": PATH,
    "pretrained": FLAG | PATH,
    "resume": FLAG | PATH,
    "seed": SEED,
    "amp": FLAG | one_of("fp16", "bf16", "fp32"),
    "fraction": number(0, 1, above=True) | whole(2, 10**9) | several(number(0, 10**9), 2, 3),
    "compile": FLAG | one_of("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "split": one_of("train", "val", "test"),
    "max_det": whole(1, 100_000),
    "classes": _CLASS | Kind("a list of class numbers, like [0,2]", several(_CLASS).fits),
    "embed": Kind("a list of rows of the network, like [16]", several(_ROW).fits),
    "line_width": whole(1, 1000),
    "opset": whole(9, 20),  # from the nearest upsampling that is asked for to the last of torch's TorchScript exporter
    "workspace": number(0, 4096, above=True),
    "degrees": number(-360, 360),
    "shear": number(-360, 360),
    "scale": SHARE | Kind("[least, most]", several(number(0, 100), 2, 2).fits),
    "nbs": whole(1, 65536),
    "optimizer": Kind(
        f"one of {', '.join(OPTIMIZERS)}", lambda v: str(v).lower() in map(str.lower, OPTIMIZERS), OPTIMIZERS
    ),
    "copy_paste_mode": one_of("flip", "mixup"),
    "auto_augment": one_of("randaugment", "autoaugment", "augmix") | NONE,
    "distill_model": PATH,
    "tracker": PATH,
    "cfg": PATH,
    **dict.fromkeys(("stream", "persist", "half", "int8"), FLAG | NONE),
    **dict.fromkeys(("trainer", "validator", "predictor"), _ENGINE),
    "save_dir": PATH | NONE,
    "augmentations": NONE | Kind("a list of transforms (in Python)", several(_TRANSFORM, 0).fits),
    **dict.fromkeys(("boxes", "hide_labels", "hide_conf", "end2end"), FLAG | NONE),
    "line_thickness": whole(1, 1000) | NONE,
}
#: Ours of ``train``; what else they have to be is said where they are read.
OURS: dict[str, Kind] = {
    **{key: kind | NONE for settings in SECTIONS.values() for key, kind in settings.KINDS.items()},
    **DeepTraining.KINDS,
    "freeze_stages": NAMES | Kind("none", lambda v: v is None or v == []),
    "preset": TEXT | NONE,
}


def _kinds() -> dict[str, Kind]:
    """Return the kind of every setting: by Ultralytics' tables, by ours where those leave it open."""
    kinds: dict[str, Kind] = {
        **dict.fromkeys(CFG_FLOAT_KEYS, number(0, MANY)),
        **dict.fromkeys(CFG_FRACTION_KEYS, SHARE),
        **{key: whole(CFG_INT_MIN.get(key, 0)) for key in CFG_INT_KEYS},
        **dict.fromkeys(CFG_BOOL_KEYS, FLAG),
        **ULTRALYTICS,
    }
    optional = {key for key, value in DEFAULT_CFG_DICT.items() if value is None}
    return {**{key: kind | NONE if key in optional else kind for key, kind in kinds.items()}, **OURS}


KINDS = _kinds()
