"""What a program does otherwise on a GPU: few kernels, each on the whole batch, and none that the host waits for.

A GPU computes a layer of resnet20 in less time than Python needs to ask for it, so what counts is how often it asks.

- **Convolution** is im2col of all taps, laid out by one copy, and one product. Backward is a convolution too (see
  `fast/conv.py`): with the columns of dy, spread by the stride and moved by the kernel flipped,

      dycols (n*h*w, kh*kw*o)        dx = dycols @ V        dweight (flipped) = x.T @ dycols

  so that nothing is scattered, and no order of additions is left to chance.
- **BatchNorm** takes both sums of an image in one kernel, in float64, what follows for the channels in a second, and
  its straight line, the sum with the shortcut and relu in a third.

Each kernel stands here twice: in CUDA, an expression for one number, and as plain array arithmetic, which is what it
means. The plain one runs wherever CuPy does not, so a program for a GPU can be followed without one.

A CUDA graph would spare the asking altogether. CuPy cannot record one here: it refuses every call of cuBLAS while a
stream is captured (cupy/cupy issue 6290), and cuBLAS makes the products.
"""

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Self

from minires.backend import Array
from minires.fast import nodes
from minires.fast.conv import GPU_COLUMN_BYTES, Conv, in_parts, landing
from minires.fast.norm import Norm
from minires.fast.program import Program
from minires.fast.worker import Meeting, Plan, Worker, setitem


class Kernel:
    """An expression in CUDA for each number, and what it means: `plain(xp, *inputs)` -> the outputs, as a tuple.

    stated: inputs, outputs and expression, as CuPy's ElementwiseKernel takes them; T is float or double. reduce: how
    the pairs that the expression gives are added up over axis 1, as ReductionKernel takes it: addition, results, zero,
    name.
    """

    def __init__(self, *stated: str, reduce: tuple[str, ...] = ()) -> None:
        self.stated, self.reduce = stated, reduce

    def means(self, plain: Callable[..., tuple[Array, ...]]) -> Self:
        """Decorates the function that says in plain array arithmetic what the expression computes."""
        self.plain = plain
        return self

    def __call__(self, xp: Any, *arguments: Any) -> Any:
        """arguments: the inputs, then the arrays that the outputs are written into."""
        if xp.__name__ == "cupy":
            return self.compiled(*arguments)
        inputs = arguments[: self.stated[0].count(",") + 1]
        for array, value in zip(arguments[len(inputs) :], self.plain(xp, *inputs), strict=True):
            array[...] = value

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """CuPy's, which compiles it when it is first called, once for each dtype."""
        import cupy

        if self.reduce:
            return partial(cupy.ReductionKernel(*self.stated, *self.reduce, reduce_type="double2"), axis=1)
        return cupy.ElementwiseKernel(*self.stated, self.plain.__name__)


@Kernel("T x, T a, T b, T other, T floor", "T y", "T s = x * a + b + other; y = s < floor ? floor : s").means
def line(xp: Any, x: Array, a: Any, b: Any, other: Any, floor: float) -> tuple[Array]:
    """y = max(x * a + b + other, floor); NaN stays NaN. floor: 0 for a relu, -inf for none."""
    return (xp.maximum(x * a + b + other, floor),)


@Kernel("T dy, T y", "T dx", "dx = dy * (y != T(0))").means
def passed(xp: Any, dy: Array, y: Array) -> tuple[Array]:
    """dx = dy where y = relu(x) is not 0."""
    return (dy * (y != 0),)


@Kernel(
    *("T f, T g", "float64 once, float64 product", "make_double2(f, double(f) * double(g))"),
    reduce=("make_double2(a.x + b.x, a.y + b.y)", "once = a.x, product = a.y", "make_double2(0, 0)", "image_sums"),
).means
def image_sums(xp: Any, f: Array, g: Array) -> tuple[Array, ...]:
    """f, g (n, pixels, c) -> the sums of f and of f * g over the pixels of each image, (n, c) in float64."""
    return f.sum(axis=1, dtype=xp.float64), (f.astype(xp.float64) * g).sum(axis=1)


@Kernel(
    "float64 count, float64 once, float64 product, T weight, T bias, T old_mean, T old_var, float64 eps, float64 rate",
    "float64 mean, float64 inv, T scale, T offset, T new_mean, T new_var",
    "mean = once / count; double var = product / count - mean * mean; var = var * (var > 0); inv = rsqrt(var + eps);"
    "scale = weight * inv; offset = bias - mean * weight * inv; new_mean = (1 - rate) * old_mean + rate * mean;"
    "new_var = (1 - rate) * old_var + rate * (var * (count / (count - 1)))",
).means
def statistics(xp: Any, count: Any, once: Any, square: Any, weight: Any, bias: Any, *settings: Any) -> Any:
    """Of each channel: from the sums of x and of x * x over the batch, BatchNorm's line, and what follows."""
    old_mean, old_var, eps, rate = settings
    mean, var = once / count, square / count - (once / count) ** 2
    var = var * (var > 0)  # a rounding error below 0 is 0
    inv, unbiased = (var + eps) ** -0.5, var * (count / (count - 1))
    follows = [(1 - rate) * old + rate * new for old, new in ((old_mean, mean), (old_var, unbiased))]
    return mean, inv, weight * inv, bias - mean * weight * inv, *follows


@Kernel(
    "float64 count, float64 once, float64 product, float64 my_once, float64 my_product, float64 mean, float64 inv, "
    "T weight, T dbias, T dweight",
    "T slope, T offset, T to_bias, T to_weight",
    "double s = -weight * inv * inv * inv * (product - mean * once) / count; slope = s;"
    "offset = -weight * inv * once / count - s * mean; to_bias = dbias + my_once;"
    "to_weight = dweight + (my_product - mean * my_once) * inv",
).means
def way_back(xp: Any, count: Any, once: Any, product: Any, my_once: Any, my_product: Any, *rest: Any) -> Any:
    """Of each channel, from the sums of dy and of dy * x over the batch and over this worker's images: slope and
    offset in dx = scale * dy + slope * x + offset (see `fast/norm.py`), dbias and dweight with what is added."""
    mean, inv, weight, dbias, dweight = rest
    slope = -weight * inv**3 * (product - mean * once) / count
    added = my_once, (my_product - mean * my_once) * inv
    return slope, -weight * inv * once / count - slope * mean, dbias + added[0], dweight + added[1]


@Kernel("T dy, T scale, T x, T slope, T offset", "T dx", "dx = scale * dy + (slope * x + offset)").means
def two_lines(xp: Any, dy: Array, scale: Any, x: Array, slope: Any, offset: Any) -> tuple[Array]:
    """dx of BatchNorm."""
    return (scale * dy + (slope * x + offset),)


class GPUConv(Conv):
    """A convolution by one product; what follows it in `forward` is added in the same kernel as its bias."""

    def forward(self, x: Array, worker: Worker, other: Any = 0.0, floor: float = -math.inf) -> Array:
        layer, weight = self.layer, self.layer.weight.value
        nodes.check_fit(x, weight, 1, (4,), worker)
        (o, c, *kernel), places = weight.shape, layer._output_shape((len(x), x.shape[3], *x.shape[1:3]))[2:]
        matrix, row = worker.new((math.prod(kernel) * c, o), x.dtype), worker.new((o,), x.dtype)
        worker.do(self._set_weights, matrix.reshape(*kernel, c, o), row.reshape(1, o))
        y = worker.take((len(x), *places, o), x.dtype)
        for part in in_parts(x, math.prod((*places, *kernel)), GPU_COLUMN_BYTES):
            cols = columns(worker, x[part], layer.padding, (1, 1), places, tuple(kernel), layer.stride, layer.dilation)
            worker.do(worker.xp.matmul, cols, matrix, out=y[part].reshape(-1, o))
        if layer.bias is not None or self.folded is not None or type(other) is not float or floor == 0:
            worker.do(line, worker.xp, y, 1.0, row, other, floor, y)
        self.x = x
        return y

    def backward(self, dy: Array, worker: Worker) -> Array:
        layer, weight, xp, x = self.layer, self.layer.weight, worker.xp, self.x
        (_, h, w, c), (o, _, *kernel), dilation = x.shape, weight.value.shape, layer.dilation
        offset = tuple((k - 1) * d - p for k, p, d in zip(kernel, layer.padding, dilation, strict=True))
        taps = worker.new((*kernel, o, c), dy.dtype)
        dweight = worker.scratch(weight, (c, math.prod(kernel) * o), dy.dtype)
        worker.gradient(weight, dweight.reshape(c, *kernel, o)[:, ::-1, ::-1].transpose(3, 0, 1, 2))
        term, dx = worker.scratch("dweight", dweight.shape, dy.dtype), worker.take(x.shape, dy.dtype)
        worker.do(lambda: setitem(taps, ..., weight.value[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)))
        for part in in_parts(dy, math.prod((h, w, *kernel)), GPU_COLUMN_BYTES):
            cols = columns(worker, dy[part], offset, layer.stride, (h, w), tuple(kernel), (1, 1), dilation)
            if worker.program.wants_dx or self is not getattr(worker.program.nodes[0], "last", None):
                worker.do(xp.matmul, cols, taps.reshape(-1, c), out=dx[part].reshape(-1, c))
            worker.do(xp.matmul, x[part].reshape(-1, c).T, cols, out=term)
            worker.do(xp.add, dweight, term, out=dweight)
        if layer.bias is not None:
            worker.do(lambda dbias: xp.add(dbias, dy.sum(axis=(0, 1, 2)), out=dbias), worker.gradient(layer.bias))
        return dx


def columns(worker: Worker, images: Array, *moves: tuple[int, int]) -> Array:
    """im2col: (n, H, W, C) -> (n * places, kh * kw * C), in scratch. moves: offset, spread, places, kernel, stride,
    dilation, each for both directions.

    Each image is laid on zeros: its pixel (0, 0) at `offset`, the next ones `spread` apart; what falls outside is
    dropped. The kernel visits that many `places` with this stride and dilation.
    """
    offset, spread, places, kernel, stride, dilation = moves
    (n, h, w, c), each = images.shape, zip(places, kernel, stride, dilation, strict=True)
    reach = tuple((p - 1) * s + (k - 1) * d + 1 for p, k, s, d in each)
    if (offset, spread) != ((0, 0), (1, 1)) or reach[0] > h or reach[1] > w:
        (rows, from_rows), (cells, from_cells) = map(landing, (h, w), offset, spread, reach)
        canvas = worker.scratch(("canvas", h, w, c, reach, offset, spread), (n, *reach, c), images.dtype)
        worker.do(setitem, canvas[:, rows, cells], ..., images[:, from_rows, from_cells])  # zeros stay around
        images = canvas
    elif kernel == stride == (1, 1) and places == (h, w):
        return images.reshape(-1, c)
    cols = worker.scratch("columns", (n * math.prod(places), math.prod(kernel) * c), images.dtype)
    shape, (image, row, pixel, number) = (n, *places, *kernel, c), images.strides
    strides = (image, row * stride[0], pixel * stride[1], row * dilation[0], pixel * dilation[1], number)
    worker.do(setitem, cols.reshape(shape), ..., worker.xp.lib.stride_tricks.as_strided(images, shape, strides))
    return cols


class GPUNorm(Norm):
    """BatchNorm in training, with the sum and the relu that follow it. On a GPU a worker has one piece, its share."""

    def forward(self, x: Array, worker: Worker, other: Any = 0.0, floor: float = -math.inf) -> Plan:
        nodes.check_fit(x, self.layer.weight.value, 0, (2, 4), worker)
        mean_inv, lines = worker.new((2, x.shape[-1]), worker.xp.float64), worker.new((4, x.shape[-1]), x.dtype)
        total, y = (yield Meeting(self._sums(worker, x, x))), worker.take(x.shape, x.dtype)
        worker.do(self._statistics, worker.xp, total, *mean_inv, *lines[:2])
        worker.do(line, worker.xp, x, *lines[:2], other, floor, y)
        self.kept = x, mean_inv, lines
        return y

    def _statistics(self, xp: Any, total: Array, *found: Array) -> None:
        """What follows for the channels, and the running statistics."""
        layer, old = self.layer, (self.layer.running_mean, self.layer.running_var)
        new, weights = [xp.empty_like(each) for each in old], (layer.weight.value, layer.bias.value)
        known = total[0], *total[1:].reshape(2, -1), *weights, *old, layer.eps, layer.momentum
        statistics(xp, *known, *found, *new)
        layer.running_mean, layer.running_var = new

    def backward(self, dy: Array, worker: Worker) -> Plan:
        x, mean_inv, lines = self.kept
        sums, dx = self._sums(worker, dy, x), x if self.in_place else worker.take(x.shape, x.dtype)
        total = yield Meeting(sums)
        both = worker.gradient(self.layer.bias), worker.gradient(self.layer.weight)

        def find_lines() -> None:
            known = total[0], *total[1:].reshape(2, -1), *sums[:, 1:].sum(axis=0).reshape(2, -1), *mean_inv
            way_back(worker.xp, *known, self.layer.weight.value, *both, *lines[2:], *both)

        worker.do(find_lines)
        worker.do(two_lines, worker.xp, dy, lines[0], x, *lines[2:], dx)
        return dx

    def _sums(self, worker: Worker, f: Array, g: Array) -> Array:
        """A row for each image: its pixels, and in each channel the sums of f and of f * g over them: (n, 1 + 2C)."""
        n, c = len(f), f.shape[-1]
        sums = worker.new((n, 1 + 2 * c), worker.xp.float64)
        sums[:, 0] = f[0].size // c
        worker.do(image_sums, worker.xp, f.reshape(n, -1, c), g.reshape(n, -1, c), sums[:, 1 : c + 1], sums[:, c + 1 :])
        return sums


class Joined(nodes.Block):
    """branch, last, + shortcut, relu: the kernel with which `last` ends does the sum and the relu, too."""

    fresh = True

    def __init__(self, last: nodes.Node, keeps: bool) -> None:
        nodes.Node.__init__(self, last.layer)
        self.last, self.branch, self.shortcut, self.relu = last, Program(keeps), None, False

    def forward(self, x: Array, worker: Worker) -> Plan:
        other = 0.0 if self.shortcut is None else (yield from self.shortcut.plan("forward", x, worker))
        before = yield from self.branch.plan("forward", x, worker)
        y = self.last.forward(before, worker, other, 0.0 if self.relu else -math.inf)
        y = (yield from y) if isinstance(self.last, Norm) else y
        for array in (before, other):
            if not worker.program.keeps and array is not x and type(array) is not float:
                worker.give_back(array)
        self.y = y
        return y

    def backward(self, dy: Array, worker: Worker) -> Plan:
        y, arrived = self.y, dy
        if self.relu:
            dy = y
            worker.do(passed, worker.xp, arrived, y, dy)
        d = self.last.backward(dy, worker)
        d = (yield from d) if isinstance(self.last, Norm) else d
        dx = yield from self.branch.plan("backward", d, worker)
        dshortcut = None if self.shortcut is None else (yield from self.shortcut.plan("backward", dy, worker))
        dx = self._add(dx, dshortcut, [*self.branch.nodes, self.last][:1], None, worker)
        for array in {id(array): array for array in (d, dy)}.values():
            if array is not dx and array is not arrived:
                worker.give_back(array)
        return dx


def for_gpu(program: Program) -> Program:
    """The same program, which fuses nothing, made of the nodes above where they have what they need: real numbers."""
    new = Program(program.keeps, wants_dx=program.wants_dx)
    for node in program.nodes:
        before = new.nodes[-1] if new.nodes else None
        if type(node) is nodes.ReLU and isinstance(before, Joined) and not before.relu:
            before.relu = True
            continue
        if type(node) is nodes.Block:
            node.branch, node.shortcut = for_gpu(node.branch), node.shortcut and for_gpu(node.shortcut)
            *most, last = node.branch.nodes or [None]
            if node.layer.branch_scale == 1 and isinstance(last, Joined) and not last.relu and last.shortcut is None:
                last.branch.nodes[:0], last.shortcut = most, node.shortcut
                node = last
        elif type(node) is Conv and node.layer.weight.value.dtype.kind == "f":
            before, node = node, Joined(GPUConv(node.layer), program.keeps)
            node.last.folded = before.folded
        elif type(node) is Norm and node.layer.training and node.layer.weight.value.dtype.kind == "f":
            node = Joined(GPUNorm(node.layer, node.in_place), program.keeps)
        new.nodes.append(node)
    return new
