"""A full int8 LiteRT file straight from the operators of a merged network, in a second: for estimates of time only.

The product's writer (``vanillayolo.deploy.litert``) takes a minute a network. Here maps share one scale and weights are
rounded without calibration, so the file's results mean nothing; a compiler's cycles depend on operators and shapes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

SCALE, JOINED_SCALE = 0.05, 0.06  # of every map; of concatenations, whose inputs a calibration scales apart
aten = torch.ops.aten
OP, TYPE = schema.BuiltinOperator, schema.TensorType


class Recorder(TorchDispatchMode):
    """Keeps every operator of a forward pass with its arguments and output."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func.overloadpacket, args, out))
        return out


def tensors(arguments: Any) -> list[Tensor]:
    flat = (x for a in arguments for x in (a if isinstance(a, (list, tuple)) else [a]))
    return [x for x in flat if isinstance(x, Tensor)]


class Writer:
    """One subgraph of int8 tensors.

    Args:
        requantise: bring the inputs of a concatenation to one scale first, as calibrated files do.
    """

    def __init__(self, requantise: bool = True) -> None:
        self.requantise = requantise
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.operatorCodes, self.model.buffers = 3, [], [schema.BufferT()]
        self.model.subgraphs, self.graph.tensors, self.graph.operators = [self.graph], [], []
        self.codes: dict[int, int] = {}
        self.ids: dict[int, int] = {}
        self.makers: dict[int, Any] = {}  # convolutions by the map that they give: a ReLU may join them

    def tensor(self, shape: Any, type: int, scale: Any = None, data: Any = None, axis: int = 0) -> int:
        t = schema.TensorT()
        t.shape, t.type, t.name = [int(n) for n in shape], type, f"t{len(self.graph.tensors)}".encode()
        if scale is not None:
            q = t.quantization = schema.QuantizationParametersT()
            q.scale = np.asarray(scale, np.float32).reshape(-1)
            q.zeroPoint, q.quantizedDimension = np.zeros(len(q.scale), np.int64), axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            t.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def map(self, like: Tensor, scale: float = SCALE) -> int:
        n, c, h, w = like.shape
        return self.tensor((n, h, w, c), TYPE.INT8, scale)

    def operator(self, code: int, inputs: list[int], outputs: list[int], options: str = "", **values: Any) -> Any:
        if code not in self.codes:
            row = schema.OperatorCodeT()
            row.builtinCode, row.deprecatedBuiltinCode, row.version = code, min(code, 127), 3
            self.codes[code] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(row)
        o = schema.OperatorT()
        o.opcodeIndex, o.inputs, o.outputs = self.codes[code], inputs, outputs
        if options:
            o.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            o.builtinOptions = getattr(schema, f"{options}T")()
            for key, value in values.items():
                setattr(o.builtinOptions, key, value)
        self.graph.operators.append(o)
        return o

    def convolution(self, args: Any, out: Tensor) -> None:
        x, weight, bias, stride, pad, groups = *args[:5], args[8]
        depthwise = groups > 1
        assert not depthwise or groups == x.shape[1] == weight.shape[0], "only depthwise groups"
        values = weight.detach().numpy().transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
        axis = 3 if depthwise else 0
        scales = np.maximum(np.abs(values).max(tuple(i for i in range(4) if i != axis)), 1e-8) / 127
        wide = scales.reshape([-1 if i == axis else 1 for i in range(4)])
        w = self.tensor(values.shape, TYPE.INT8, scales, np.round(values / wide).astype(np.int8), axis)
        source = self.ids[id(x)]
        steps = scales * float(self.graph.tensors[source].quantization.scale[0])
        shift = np.zeros(len(weight)) if bias is None else bias.detach().numpy()
        b = self.tensor((len(weight),), TYPE.INT32, steps, np.round(shift / steps).astype(np.int32))
        same = stride[0] == 1 and list(pad) == [k // 2 for k in weight.shape[2:]]
        if not same and any(pad):
            source = self.pad(x, source, pad)
        options = {"padding": schema.Padding.SAME if same else schema.Padding.VALID}
        options |= {"strideH": stride[0], "strideW": stride[1], "dilationHFactor": 1, "dilationWFactor": 1}
        target = self.ids[id(out)] = self.map(out)
        code = OP.DEPTHWISE_CONV_2D if depthwise else OP.CONV_2D
        name = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        options |= {"depthMultiplier": 1} if depthwise else {}
        self.makers[id(out)] = self.operator(code, [source, w, b], [target], name, **options)

    def pad(self, x: Tensor, source: int, pad: Any) -> int:
        n, c, h, w = x.shape
        padded = self.tensor((n, h + 2 * pad[0], w + 2 * pad[1], c), TYPE.INT8, SCALE)
        rows = np.array([[0, 0], [pad[0]] * 2, [pad[1]] * 2, [0, 0]], np.int32)
        self.operator(OP.PAD, [source, self.tensor((4, 2), TYPE.INT32, None, rows)], [padded], "PadOptions")
        return padded

    def relu(self, args: Any, out: Tensor, alone: bool) -> None:
        if alone and id(args[0]) in self.makers:
            self.makers[id(args[0])].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
            self.ids[id(out)] = self.ids[id(args[0])]
            return
        self.ids[id(out)] = self.map(out)
        self.operator(OP.RELU, [self.ids[id(args[0])]], [self.ids[id(out)]])

    def silu(self, args: Any, out: Tensor) -> None:
        source, gate, target = self.ids[id(args[0])], self.map(out, 1 / 256), self.map(out)
        self.graph.tensors[gate].quantization.zeroPoint = np.array([-128])
        self.operator(OP.LOGISTIC, [source], [gate])
        self.operator(OP.MUL, [source, gate], [target], "MulOptions")
        self.ids[id(out)] = target

    def max_pool(self, args: Any, out: Any) -> None:
        window, stride, pad = args[1], args[2], args[3] if len(args) > 3 else [0]
        self.ids[id(out[0])] = target = self.map(out[0])
        options = {"filterHeight": window[0], "filterWidth": window[-1], "strideH": stride[0], "strideW": stride[-1]}
        padding = schema.Padding.SAME if any(pad) else schema.Padding.VALID
        source = self.ids[id(args[0])]
        self.operator(OP.MAX_POOL_2D, [source], [target], "Pool2DOptions", padding=padding, **options)

    def upsample(self, args: Any, out: Tensor) -> None:
        size = self.tensor((2,), TYPE.INT32, None, np.array(out.shape[2:], np.int32))
        self.ids[id(out)] = target = self.map(out)
        options = {"halfPixelCenters": True}
        source = self.ids[id(args[0])]
        self.operator(OP.RESIZE_NEAREST_NEIGHBOR, [source, size], [target], "ResizeNearestNeighborOptions", **options)

    def concatenation(self, args: Any, out: Tensor) -> None:
        inputs, scale = [self.ids[id(x)] for x in args[0]], SCALE
        if self.requantise and len(inputs) == 2:  # the four of SPPF have one scale: pools keep it
            scale = JOINED_SCALE
            for i, x in enumerate(args[0]):
                scaled = self.map(x, scale)
                self.operator(OP.QUANTIZE, [inputs[i]], [scaled], "QuantizeOptions")
                inputs[i] = scaled
        self.ids[id(out)] = self.map(out, scale)
        self.operator(OP.CONCATENATION, inputs, [self.ids[id(out)]], "ConcatenationOptions", axis=3)

    def sum(self, args: Any, out: Tensor) -> None:
        self.ids[id(out)] = self.map(out)
        self.operator(OP.ADD, [self.ids[id(x)] for x in args[:2]], [self.ids[id(out)]], "AddOptions")

    def write(self, network: nn.Module, shape: tuple[int, int, int, int], path: Path) -> Path:
        """Write the file of a network for one input ``[1, channels, height, width]``."""
        x = torch.zeros(shape)
        with torch.no_grad(), Recorder() as recorder:
            found = network.eval()(x)
        outputs = list(found) if isinstance(found, (list, tuple)) else [found]
        uses = Counter(id(t) for _, args, _ in recorder.calls for t in tensors(args))
        uses.update(id(t) for t in outputs)
        self.ids[id(x)] = self.map(x)
        self.graph.inputs = [self.ids[id(x)]]
        table = {aten.convolution: self.convolution, aten.max_pool2d_with_indices: self.max_pool}
        table |= {aten.upsample_nearest2d: self.upsample, aten.cat: self.concatenation, aten.add: self.sum}
        table |= dict.fromkeys((aten.silu, aten.silu_), self.silu)
        for call, args, out in recorder.calls:
            if call in (aten.relu, aten.relu_):
                self.relu(args, out, uses[id(args[0])] == 1)
            elif call is not aten.detach:
                table[call](args, out)  # KeyError: an operator that this writer has not
        self.graph.outputs = [self.ids[id(t)] for t in outputs]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(builder.Output())
        return path
