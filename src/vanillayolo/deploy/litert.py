"""Full int8 LiteRT files: integers from input to output, for compilers of NPUs.

Written by Google's litert-torch and ai-edge-quantizer, calibrated on pictures. The extra ``npu`` brings both.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextlib.contextmanager
def silent_tools() -> Iterator[None]:
    """Keep the progress of the two libraries, in Python and in C++, off the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(io.StringIO()):
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def write_int8(network: nn.Module, path: Path, images: Sequence[Tensor]) -> Path:
    """Write a network as a full int8 LiteRT file: int8 weights by channel, int8 maps by tensor, int8 input and outputs.

    Args:
        network: merged, in evaluation mode; it gives one map ``[1, channels, height, width]`` or several.
        path: the file to write.
        images: inputs ``[1, 3, height, width]``, 0 to 1, all of one size, to calibrate on.

    Returns:
        The path; the file takes and gives ``[1, height, width, channels]``.
    """
    with silent_tools():
        import litert_torch
        from ai_edge_quantizer import quantizer, recipe

        samples = [image.permute(0, 2, 3, 1).contiguous() for image in images]
        with torch.no_grad():
            outputs = network(images[0])
        count = len(outputs) if isinstance(outputs, (list, tuple)) else 1
        channels_last = litert_torch.to_channel_last_io(network, args=[0], outputs=list(range(count)))
        litert_torch.convert(channels_last.eval(), (samples[0],)).export(str(path))
        quantized = quantizer.Quantizer(str(path))
        quantized.load_quantization_recipe(recipe.static_wi8_ai8())
        ranges = quantized.calibrate({"serving_default": [{"args_0": sample.numpy()} for sample in samples]})
        quantized.quantize(ranges).export_model(str(path), overwrite=True)
    return path


class Int8File:
    """A full int8 LiteRT file, run by LiteRT's reference interpreter.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        with silent_tools():
            from ai_edge_litert.interpreter import Interpreter

            self._interpreter: Any = Interpreter(model_path=str(path))
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        named = {detail["name"]: detail for detail in self._interpreter.get_output_details()}
        self._outputs = [named[name] for name in sorted(named)]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Map an image ``[1, 3, height, width]``, 0 to 1, to the network's outputs ``[1, channels, height, width]``."""
        scale, zero = self._input["quantization"]
        rows = np.round(x.permute(0, 2, 3, 1).numpy() / scale) + zero
        self._interpreter.set_tensor(self._input["index"], rows.clip(-128, 127).astype(np.int8))
        self._interpreter.invoke()
        found = []
        for detail in self._outputs:
            scale, zero = detail["quantization"]
            values = (self._interpreter.get_tensor(detail["index"]).astype(np.float32) - zero) * scale
            found.append(torch.from_numpy(values).permute(0, 3, 1, 2))
        return found
