"""The export formats as a table: names of their files, packages they need, precisions they have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vanillayolo.errors import UsageError, closest
from vanillayolo.yolo.files import missing_packages


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        ending: what follows the checkpoint's stem in the file's name.
        running: packages that run it.
        making: further packages that write it.
        extra: the extra of this package that installs both.
        half: whether it has float16 on a CPU.
        int8: ending of its int8 files; empty where there are none.
    """

    ending: str
    running: tuple[str, ...] = ()
    making: tuple[str, ...] = ()
    extra: str = "export"
    half: bool = False
    int8: str = ""


FORMATS = {
    "torchscript": Format(".torchscript"),
    "onnx": Format(".onnx", ("onnx>=1.17", "onnxruntime>=1.20"), ("onnxslim>=0.1.82",), half=True, int8="_int8.onnx"),
    "openvino": Format("_openvino_model", ("openvino>=2025.2",), half=True, int8="_int8_openvino_model"),
    # pnnx: later versions write files that ncnn crashes on (Ultralytics' own pin)
    "ncnn": Format("_ncnn_model", ("ncnn",), ("pnnx==20260526",), extra="ncnn", half=True),
    "litert": Format(".tflite", ("ai-edge-litert>=2.3.0",), ("litert-torch>=0.10.0",), extra="litert"),
    "executorch": Format("_executorch_model", ("executorch>=1.5",), extra="executorch"),
}
#: Formats that are left out, with the reason.
LEFT_OUT = {"mnn": "its converter installs packages by itself and reports to a server"}


def check_format(format: object) -> str:
    """Return the name of a format.

    Raises:
        UsageError: for one that is not exported here.
    """
    name = str(format).lower()
    if name in LEFT_OUT:
        raise UsageError(f"format={name}: left out, {LEFT_OUT[name]}; allowed: {', '.join(FORMATS)}.")
    if name not in FORMATS:
        raise UsageError(
            f"format={format!r}: {closest(name, FORMATS)} (Ultralytics exports others from a collapsed checkpoint, "
            "which 'vanillayolo collapse' writes)."
        )
    return name


def format_of(path: Path) -> str:
    """Return the format of an exported file by its name.

    Raises:
        UsageError: for a file that is none.
    """
    for name, format in FORMATS.items():
        if path.name.endswith(format.ending) and (path.is_dir() or "_model" not in format.ending):
            return name
    endings = ", ".join(f"NAME{format.ending}" for format in FORMATS.values())
    raise UsageError(f"{path}: not an exported file; allowed: {endings}.")


def check_packages(format: str, run_only: bool = False) -> None:
    """Raise UsageError, with what to install, unless the packages of a format are there."""
    chosen = FORMATS[format]
    missing = missing_packages([*chosen.running, *(() if run_only else chosen.making)])
    if missing:
        raise UsageError(
            f"format={format} needs {', '.join(missing)}: pip install 'vanillayolo[{chosen.extra}]' installs them."
        )


def int8_formats() -> list[str]:
    """Return the formats that have int8."""
    return [name for name, format in FORMATS.items() if format.int8]
