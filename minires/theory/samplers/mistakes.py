"""The usual mistakes of samplers as a table: a sentence, and the variance that the slip gives every shape.

A law that is missed by a factor is usually missed by a *known* factor: fans swapped, a gain that was not squared, a
truncation that was not corrected. The mistake whose variance fits the weights of all shapes is named.
"""

import math
from typing import Any

import numpy as np

from minires.init import fans
from minires.init.distributions import truncated_moments
from minires.theory.samplers import weights
from minires.theory.samplers.weights import Draws, Shape

ALIKE = 0.01  # two variances that agree within this are one to us


def probes(shape: Shape) -> tuple[Shape, Shape]:
    """Two shapes with other channel counts, the second with another kernel too; depthwise where this one is."""
    inputs = (1, 1) if is_depthwise(shape) else (24, 7)
    return (10, inputs[0], *shape[2:]), (42, inputs[1], *(5, 2, 3)[: len(shape) - 2])


def is_depthwise(shape: Shape) -> bool:
    """(C, 1, kh, kw): the weight of a convolution in as many groups as channels."""
    return len(shape) > 2 and shape[1] == 1 and shape[0] > 1


def slips(law: Any, shape: Shape, uniform: bool) -> dict[str, float]:
    """{mistake: the variance that it gives the shape}, nan where it does not apply; the likelier ones first."""
    right, area = law.variance(shape), math.prod(shape[2:])
    fan_in, fan_out = fans(shape)
    mode, gain2 = getattr(law, "mode", ""), getattr(law, "scale", math.nan)  # only laws with a fan have them
    fan, other = gain2 / right, {"fan_in": fan_out, "fan_out": fan_in}.get(mode, math.nan)
    of_in, of_out, of_mean = (gain2 if mode == each else math.nan for each in ("fan_in", "fan_out", "fan_avg"))
    bound = 1.0 if uniform else math.nan  # no other distribution has one to mistake
    lone = 1.0 if is_depthwise(shape) else math.nan
    as_keras = (shape[-1], shape[-2], *shape[:-2])  # what (kh, kw, in, out) is for us
    return {
        "uniform bound lacks its sqrt(3)": bound * right / 3,
        "uniform bound sqrt(3) times too large": bound * right * 3,
        "stride ignored": right,
        "fan_in of a depthwise convolution counts all channels, where a filter sees one": lone * of_in / fan_out,
        "fan_out of a depthwise convolution counts one channel, where the law counts all": lone * of_out / area,
        "both fans of a depthwise convolution count one channel": lone * of_mean / area,
        "fans swapped": gain2 / other,
        "fan_in where the mean of both fans was meant": of_mean / fan_in,
        "fan_out where the mean of both fans was meant": of_mean / fan_out,
        f"the mean of both fans where {mode} was meant": 2 * gain2 / (fan_in + fan_out),
        "kernel area forgotten in fan_out": 2 * of_mean / (fan_in + shape[0]),
        "kernel area forgotten in fan_in": 2 * of_mean / (shape[1] + fan_out),
        "bracket misplaced, sqrt(2/fan_in + fan_out)": 2 * of_mean / fan_in + fan_out,
        "bracket misplaced, sqrt(2/fan_out + fan_in)": 2 * of_mean / fan_out + fan_in,
        "sum of the fans where their mean was meant": of_mean / (2 * fan),
        "bracket misplaced, the root of the gain over the fan instead of the root of both": gain2 / fan**2,
        "gain used once instead of squared": math.sqrt(gain2) / fan,
        f"gain forgotten, 1/fan instead of {gain2:.4g}/fan": 1 / fan,
        "gain squared twice": gain2**2 / fan,
        "channels forgotten, only the kernel's area was counted": gain2 / area,
        "kernel area forgotten, only the channels were counted": area * gain2 / fan,
        "one kernel axis forgotten": math.prod(shape[2:3]) * gain2 / fan,
        "PyTorch's default, kaiming_uniform with a = sqrt(5)": 1 / (3 * fan_in),
        "Xavier's law, 2/(fan_in + fan_out)": 2 / (fan_in + fan_out),
        "He's law, 2/fan_in": 2 / fan_in,
        "He's gain of 2 where the law has another": 2 / fan,
        "shape read as (kh, kw, in, out), Keras's order": law.variance(as_keras),
        **_slips_in_a_number(right, of_out / fan),
        "square root missing, the variance was used as the standard deviation": right**2,
        "square root taken twice": math.sqrt(right),
    }


def _slips_in_a_number(right: float, of_out: float) -> dict[str, float]:
    """Those that have a stride, a cut or a number of groups in them. A stride changes fan_out alone."""
    found = {}
    for n in (2, 3, 4):
        found[f"fan divided by the square of a stride of {n}"] = of_out * n**2
        found[f"fan multiplied by the square of a stride of {n}"] = of_out / n**2
    for cut, where in ((2, ""), (3, " (cut at 3 standard deviations)"), (1, " (cut at 1 standard deviation)")):
        left = truncated_moments(cut)[0]
        found["truncation not corrected" + where] = right * left
        found["corrected for a truncation that is not there" + where] = right / left
    for n in (2, 4, 8, 16, 32, 64):
        found[f"fan multiplied by a number of groups, {n}: a filter sees its group alone"] = right / n
        found[f"fan divided by a number of groups, {n}: the shape has it already"] = right * n
    return found


def variance_sentence(draws: Draws, law: Any, scale: float, family: weights.Family, threshold: float) -> str:
    """Name the first mistake that fits all shapes about as well as the best one; the plain factor where none fits."""
    measured = np.array([weights.mean_square(w) for _, w in draws])
    lawful = scale * np.array([law.variance(shape) for shape, _ in draws])
    spread = np.array([family.second_moment_sd(w.size) for _, w in draws])
    tables = [slips(law, shape, family is weights.UNIFORM) for shape, _ in draws]
    expected = {mistake: np.array([table[mistake] for table in tables]) for mistake in tables[0]}
    wrong = {mistake: v for mistake, v in expected.items() if np.any(np.abs(v / lawful - 1) >= ALIKE)}
    misfits = {mistake: np.max(np.abs(measured / v - 1) / spread) for mistake, v in wrong.items()}
    most = min(threshold, 1 + min(misfits.values()))
    mistake = next((mistake for mistake, misfit in misfits.items() if misfit <= most), "")
    ratios, shown, at = expected.get(mistake, measured) / lawful, 0, ""
    if abs(ratios[0] - 1) < ALIKE:  # the shape asked for cannot show the mistake, another one did
        shown = int(np.argmax(np.abs(np.log(ratios))))
        at = f" (at shape {'x'.join(map(str, draws[shown][0]))})"
    if not mistake and len(draws) > 1 and measured.max() / measured.min() - 1 <= 2 * threshold * spread.max():
        mistake = f"fan ignored: standard deviation {math.sqrt(measured[0]):.3g} whatever the shape"
    return factor_sentence(ratios[shown], mistake or "a factor that no known mistake explains") + at


def factor_sentence(ratio: float, sentence: str) -> str:
    """The sentence, and by which factor the variance is off."""
    if ratio >= 1.3:
        return f"{sentence}: {ratio:.3g} times too large"
    if ratio <= 1 / 1.3 and "truncat" not in sentence:
        return f"{sentence}: {1 / ratio:.3g} times too small"
    return f"variance {ratio:.3f} of the law: {sentence}"
