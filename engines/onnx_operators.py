"""ONNX operators in torch, as many as this project's networks use (opset 17-20).

Each takes the node's attributes and its inputs; inputs in `STATIC_INPUTS` arrive as Python lists or numbers (None where
left out), because shapes, axes and limits have to be known while a graph is traced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.errors import EngineError

STATIC_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Pad": (1, 2, 3),
    "ReduceL2": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
}
_DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip


def _refuse(what: str) -> EngineError:
    return EngineError(f"the torch engine can't do {what}: use openvino or onnxruntime for this model.")


def _spatial(a: Mapping, x: Tensor) -> tuple[Tensor, list[int], list[int], list[int]]:
    """Strides, dilations and symmetric padding; what is asymmetric is padded here."""
    rank = x.ndim - 2
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise _refuse(f"auto_pad {a['auto_pad'].decode()}")
    pads = list(a.get("pads", [0] * 2 * rank))
    begin, end = pads[:rank], pads[rank:]
    if begin != end:
        x = F.pad(x, [n for pair in zip(begin[::-1], end[::-1], strict=True) for n in pair])
        begin = [0] * rank
    return x, list(a.get("strides", [1] * rank)), list(a.get("dilations", [1] * rank)), begin


def _conv(a, x, w, b=None):
    x, stride, dilation, pad = _spatial(a, x)
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[x.ndim - 2]
    return conv(x, w, b, stride, pad, dilation, a.get("group", 1))


def _conv_transpose(a, x, w, b=None):
    rank = x.ndim - 2
    pads = a.get("pads", [0] * 2 * rank)
    if list(pads[:rank]) != list(pads[rank:]) or "output_shape" in a:
        raise _refuse("ConvTranspose with asymmetric padding")
    conv = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]
    extra = a.get("output_padding", [0] * rank)
    stride, dilation = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    return conv(x, w, b, list(stride), list(pads[:rank]), list(extra), a.get("group", 1), list(dilation))


def _pool(name: str) -> Callable:
    def pool(a, x):
        if a.get("ceil_mode", 0):
            raise _refuse(f"{name} with ceil_mode")
        kernel = list(a["kernel_shape"])
        stride, pads = list(a.get("strides", [1] * len(kernel))), list(a.get("pads", [0] * 2 * len(kernel)))
        if pads[: len(kernel)] != pads[len(kernel) :]:
            raise _refuse(f"{name} with asymmetric padding")
        if name == "MaxPool":
            dilation = list(a.get("dilations", [1] * len(kernel)))
            return F.max_pool2d(x, kernel, stride, pads[: len(kernel)], dilation)
        return F.avg_pool2d(x, kernel, stride, pads[: len(kernel)], count_include_pad=bool(a.get("count_include_pad")))

    return pool


def _resize(a, x, roi=None, scales=None, sizes=None):
    mode, place = a.get("mode", b"nearest"), a.get("coordinate_transformation_mode", b"half_pixel")
    if sizes:
        size = [int(n) for n in sizes[2:]]
    else:
        exact = [n * s for n, s in zip(x.shape[2:], scales[2:], strict=True)]
        size = [math.floor(n + 1e-4) for n in exact]
        if any(abs(n - have) > 1e-3 for n, have in zip(exact, size, strict=True)):
            raise _refuse(f"Resize of {tuple(x.shape)} by {scales}")
    half = place in (b"half_pixel", b"pytorch_half_pixel")
    if mode == b"nearest" and place == b"asymmetric" and a.get("nearest_mode", b"") == b"floor":
        return F.interpolate(x, size, mode="nearest")
    if mode == b"nearest" and half:
        return F.interpolate(x, size, mode="nearest-exact")
    names = {b"linear": {1: "linear", 2: "bilinear"}[x.ndim - 2], b"cubic": "bicubic"}
    if mode in names and (half or place == b"align_corners") and not a.get("antialias"):
        return F.interpolate(x, size, mode=names[mode], align_corners=not half)
    raise _refuse(f"Resize {mode.decode()} with {place.decode()}")


def _grid_sample(a, x, grid):
    mode = {b"linear": "bilinear", b"cubic": "bicubic"}.get(a.get("mode", b"linear"), a.get("mode", b"").decode())
    pad = a.get("padding_mode", b"zeros").decode()
    return F.grid_sample(x, grid, mode=mode, padding_mode=pad, align_corners=bool(a.get("align_corners", 0)))


def _pad(a, x, pads, value=None, axes=None):
    axes = list(range(x.ndim)) if axes is None else [n % x.ndim for n in axes]
    begin, end = dict(zip(axes, pads, strict=False)), dict(zip(axes, pads[len(axes) :], strict=False))
    flat = [int(n) for axis in reversed(range(x.ndim)) for n in (begin.get(axis, 0), end.get(axis, 0))]
    mode = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate"}[a.get("mode", b"constant")]
    if mode == "constant":
        return F.pad(x, flat, value=0.0 if value is None else float(value))
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return F.pad(x, flat, mode=mode)


def _slice(a, x, starts, ends, axes=None, steps=None):
    index = [slice(None)] * x.ndim
    for i, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = steps[i] if steps else 1
        if step > 0:
            index[axis] = slice(starts[i], ends[i], step)
        else:
            backwards = range(*slice(starts[i], ends[i], step).indices(x.shape[axis]))
            x = x.index_select(axis, torch.tensor(list(backwards), device=x.device))
    return x[tuple(index)]


def _split(a, x, sizes=None):
    axis = a.get("axis", 0)
    if sizes:
        return x.split(list(sizes), axis)
    return x.split(-(-x.shape[axis] // a["num_outputs"]), axis)


def _reshape(a, x, shape):
    if not a.get("allowzero"):
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return x.reshape(shape)


def _squeeze(a, x, axes=None):
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(a, x, axes):
    rank = x.ndim + len(axes)
    for axis in sorted(n % rank for n in axes):
        x = x.unsqueeze(axis)
    return x


def _gather(a, x, index):
    axis = a.get("axis", 0) % x.ndim
    index = index.to(x.device)
    index = torch.where(index < 0, index + x.shape[axis], index)
    picked = x.index_select(axis, index.reshape(-1))
    return picked.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


def _reduce(function: Callable) -> Callable:
    def reduce(a, x, axes=None):
        axes = axes if axes is not None else a.get("axes")
        if axes is None and a.get("noop_with_empty_axes"):
            return x
        return function(x, tuple(axes) if axes is not None else tuple(range(x.ndim)), bool(a.get("keepdims", 1)))

    return reduce


def _batch_norm(a, x, scale, bias, mean, var):
    return F.batch_norm(x, mean, var, scale, bias, eps=a.get("epsilon", 1e-5))


def _group_norm(a, x, scale, bias):
    groups = a["num_groups"]
    per_group = scale.numel() == groups != x.shape[1]  # before opset 21
    if per_group:
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, a.get("epsilon", 1e-5))


def _layer_norm(a, x, scale, bias=None):
    return F.layer_norm(x, x.shape[a.get("axis", -1) % x.ndim :], scale, bias, a.get("epsilon", 1e-5))


def _gemm(a, x, y, c=None):
    x, y = x.T if a.get("transA") else x, y.T if a.get("transB") else y
    product = a.get("alpha", 1.0) * (x @ y)
    return product if c is None else product + a.get("beta", 1.0) * c


def _divide(a, x, y):
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _clip(a, x, low=None, high=None):
    return x if low is None and high is None else x.clamp(low, high)


def _constant_of_shape(a, shape):
    value = a.get("value", torch.zeros(1))
    return value.reshape(1).expand(shape).clone() if shape else value.reshape(())


def _fold(function: Callable) -> Callable:
    def fold(a, *inputs: Tensor) -> Tensor:
        result = inputs[0]
        for other in inputs[1:]:
            result = function(result, other)
        return result

    return fold


def _plain(function: Callable) -> Callable:
    return lambda a, *inputs: function(*inputs)


def _depth_to_space(a, x):
    if a.get("mode", b"DCR") != b"CRD":
        raise _refuse("DepthToSpace in DCR order")
    return F.pixel_shuffle(x, a["blocksize"])


OPERATORS: Mapping[str, Callable[..., Tensor | Sequence[Tensor]]] = {
    **{
        name: _plain(getattr(torch, name.lower()))
        for name in ("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Log", "Neg", "Reciprocal", "Relu", "Round")
    },
    **{name: _plain(getattr(torch, name.lower())) for name in ("Sigmoid", "Sign", "Sin", "Sqrt", "Tanh", "Where")},
    **{name: _plain(getattr(torch, name.lower())) for name in ("Greater", "Less", "Equal")} ,
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "AveragePool": _pool("AveragePool"),
    "BatchNormalization": _batch_norm,
    "Cast": lambda a, x: x.to(_DTYPES[a["to"]]),
    "Clip": _clip,
    "Concat": lambda a, *inputs: torch.cat(inputs, a["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _divide,
    "Einsum": lambda a, *inputs: torch.einsum(a["equation"].decode(), *inputs),
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Expand": lambda a, x, shape: x * torch.ones(shape, dtype=x.dtype, device=x.device),
    "Flatten": lambda a, x: x.reshape(math.prod(x.shape[: a.get("axis", 1)]), -1),
    "Gather": _gather,
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", b"none").decode()),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GreaterOrEqual": _plain(torch.ge),
    "GridSample": _grid_sample,
    "GroupNormalization": _group_norm,
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": _plain(F.hardswish),
    "Identity": _plain(lambda x: x),
    "InstanceNormalization": lambda a, x, w, b: F.instance_norm(x, weight=w, bias=b, eps=a.get("epsilon", 1e-5)),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "LessOrEqual": _plain(torch.le),
    "MatMul": _plain(torch.matmul),
    "Max": _fold(torch.maximum),
    "MaxPool": _pool("MaxPool"),
    "Min": _fold(torch.minimum),
    "Mul": _plain(torch.mul),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "Pad": _pad,
    "Pow": lambda a, x, y: x.pow(y),
    "PRelu": lambda a, x, slope: torch.where(x < 0, x * slope, x),
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep)),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceSum": _reduce(torch.sum),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda a, x: torch.tensor(list(x.shape)[a.get("start", 0) : a.get("end")]),
    "Slice": _slice,
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
    "Softplus": _plain(F.softplus),
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Sum": _fold(torch.add),
    "Tile": lambda a, x, repeats: x.repeat(*repeats),
    "Transpose": lambda a, x: x.permute(*a.get("perm", tuple(reversed(range(x.ndim))))),
    "Unsqueeze": _unsqueeze,
}  # fmt: skip
