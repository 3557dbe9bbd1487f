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
