"""int8 LiteRT files, by Google's litert-torch and ai-edge-quantizer.

Two kinds: with the decode inside, in float, behind a network of integers, which ``YOLO(file)`` opens; and integers from
input to output, for compilers of NPUs, whose raw maps (:mod:`vanillayolo.yolo.raw_maps`) are decoded outside.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vanillayolo.yolo.calibration import Batches
from vanillayolo.yolo.exporting import metadata_for, silent_tools
from vanillayolo.yolo.pictures import channels_of
from vanillayolo.yolo.raw_maps import Decode, Decoded, with_raw_maps

from .int8 import QuantizeSettings
from .rewrites import rewritten

#: What litert-torch calls the one signature of a file, and the input of it.
SIGNATURE, INPUT = "serving_default", "args_0"


def write_int8(network: nn.Module, path: Path, images: Iterable[Tensor], in_float: Sequence[str] = ()) -> Path:
    """Write a network as an int8 LiteRT file: int8 weights by channel, int8 maps by tensor.

    Args:
        network: merged, in evaluation mode; it gives one map ``[1, channels, height, width]`` or several, or
            ``[1, rows, anchors]``.
        path: the file to write.
        images: inputs ``[1, 3, height, width]``, 0 to 1, all of one size, to calibrate on.
        in_float: patterns of the names, as litert-torch makes them of the modules' paths, of operations that stay in
            float; input and outputs are int8 where there is none, else float.

    Returns:
        The path; the file takes and gives ``[1, height, width, channels]``.
    """
    with silent_tools():
        import litert_torch
        from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe

        samples = (image.permute(0, 2, 3, 1).contiguous() for image in images)
        first = next(samples)
        with torch.no_grad():
            outputs = network(first.permute(0, 3, 1, 2))
        maps = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        turned = [i for i, x in enumerate(maps) if x.dim() == 4]
        channels_last = litert_torch.to_channel_last_io(network, args=[0], outputs=turned)
        litert_torch.convert(channels_last.eval(), (first,)).export(str(path))
        quantized = quantizer.Quantizer(str(path))
        quantized.load_quantization_recipe(recipe.static_wi8_ai8())
        names = qtyping.TFLOperationName
        left = [(pattern, names.ALL_SUPPORTED) for pattern in in_float]
        for pattern, operation in [*left, (".*", names.INPUT), (".*", names.OUTPUT)] if left else []:
            quantized.update_quantization_recipe(pattern, operation, algorithm_key=recipe.AlgorithmName.NO_QUANTIZE)
        mode = calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED  # the same ranges three times as fast
        ranges: dict[str, Any] = {}
        for sample in (first, *samples):
            widen(ranges, quantized.calibrate({SIGNATURE: [{INPUT: sample.numpy()}]}, mode=mode))
        quantized.quantize(alive(ranges)).export_model(str(path), overwrite=True)
    return path


def widen(ranges: dict[str, Any], seen: dict[str, Any]) -> None:
    """Widen the ranges of tensors, in place, by those of one more image.

    Given all images at once the quantiser takes a moving average of their extremes, which clips what few images light
    up.
    """
    for name, found in seen.items():
        known = ranges.setdefault(name, found)
        for key, pick in (("min", np.minimum), ("max", np.maximum)):
            if key in found:
                known[key] = pick(known[key], found[key])


def alive(ranges: dict[str, Any]) -> dict[str, Any]:
    """Give tensors that are 0 in every image, in place, a range of 0 to 1; return all ranges.

    Rows at a distance of 3 meet nothing in a map of 3 pixels. The step that the quantiser takes for such a map is so
    small that XNNPACK does not open the file.
    """
    for found in ranges.values():
        if "max" in found and not np.any(found["min"]) and not np.any(found["max"]):
            found["max"] = np.ones_like(found["max"])
    return ranges


def pattern_of(module: str) -> str:
    """Return the pattern of what a module of the network, ``model.0.stem``, computes, and all in it."""
    parts = (rf"[\w.]*_{re.escape(part)}" for part in module.removeprefix("model.").split("."))
    return rf".*_body/{'/'.join(parts)}[/;].*"


def write_litert(network: Any, target: Path, batches: Batches, settings: QuantizeSettings) -> None:
    """Write an equalised detector, merged, as int8 with Ultralytics' metadata, its decode as the settings have it."""
    strides, bins = [int(s) for s in network.stride], int(network.model[-1].reg_max)
    body = with_raw_maps(rewritten(network, ("relu-before-pool",)))
    inside = settings.decode == "inside"
    decode = Decode(strides, bins, batches.size, shares=True) if inside else nn.Identity()
    floats = [*map(pattern_of, settings.keep_float), *([rf".*{Decode.__name__}_decode;.*"] if inside else [])]
    floats += [".*serving_default_output.*"] if inside else []
    write_int8(Decoded(body, decode).eval(), target, batches, floats)
    said = metadata_for(network, batches.size, channels_of(network)) | {"decode": settings.decode}
    if not inside:
        said |= {"bins": bins, **tensors(target, strides)}
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps(said))


def tensors(path: Path, strides: Sequence[int]) -> dict[str, Any]:
    """Return how the input of a file without decode rounds, and what each of its outputs, in order, is and holds."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner(SIGNATURE)
    outputs = sorted(runner.get_output_details().items(), key=lambda output: int(output[0].rpartition("_")[2]))
    maps = []
    for i, (name, detail) in enumerate(outputs):
        holds = {"holds": "boxes" if i < len(strides) else "scores", "stride": strides[i % len(strides)]}
        shape = [int(side) for side in detail["shape"]]
        maps.append({"name": name, "tensor": str(detail["name"]), "shape": shape, **integers(detail), **holds})
    return {"input": integers(runner.get_input_details()[INPUT]), "maps": maps}


def integers(detail: dict[str, Any]) -> dict[str, Any]:
    """Return type, scale and zero point of a tensor."""
    scale, zero = detail["quantization"]
    return {"type": np.dtype(detail["dtype"]).name, "scale": float(scale), "zero_point": int(zero)}
