"""Random geometries of a sliding window, for hypothesis."""

from hypothesis import strategies as st


def pairs(low, high):
    """An int, or a pair of ints, as every geometry option of the ops takes."""
    ints = st.integers(low, high)
    return ints | st.tuples(ints, ints)


def as_pair(value):
    return value if isinstance(value, tuple) else (value, value)


@st.composite
def convolutions(draw):
    """(x's shape, weight's shape, options): any geometry whose kernel fits into the padded input."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    options = {"stride": draw(pairs(1, 3)), "padding": draw(pairs(0, 3)), "dilation": draw(pairs(1, 3))}
    padding, dilation = as_pair(options["padding"]), as_pair(options["dilation"])
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [max(1, span - 2 * p) + draw(st.integers(0, 6)) for span, p in zip(spans, padding, strict=True)]
    batch, channels, filters = (draw(st.integers(1, 5)) for _ in range(3))
    return (batch, channels, *size), (filters, channels, *kernel), options


@st.composite
def poolings(draw):
    """(x's shape, kernel size, options): padding at most half the window, as PyTorch asks."""
    kernel = draw(pairs(1, 4))
    padding = tuple(draw(st.integers(0, k // 2)) for k in as_pair(kernel))
    size = [max(1, k - 2 * p) + draw(st.integers(0, 6)) for k, p in zip(as_pair(kernel), padding, strict=True)]
    options = {"stride": draw(st.none() | pairs(1, 4)), "padding": padding}
    return (draw(st.integers(1, 4)), draw(st.integers(1, 4)), *size), kernel, options
