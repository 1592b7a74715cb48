"""Is the first sentence of a diagnosis true, read literally? What a rule can check is checked, on the arrays alone.

`check` knows nothing of how the sentence was found: it takes the numbers, names and factors out of the words and holds
them against the returned gradients and the right ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from minires.gradcheck import CATALOGUE

NUMBER = r"(-?\d[\d.]*(?:e[+-]?\d+)?)"
LOOSE = 2e-4
"""Numbers in sentences are rounded to 4 to 6 digits."""


@dataclass
class Facts:
    """The returned and the right gradients by name ("dx"), and the inputs; `planted`: faults that are there."""

    yours: dict[str, np.ndarray]
    right: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    planted: tuple[str, ...] = ()

    def renamed(self, names: list[str]) -> Facts:
        """The same under other names of the gradients, in the same order."""
        arrays = [dict(zip(names, a.values(), strict=True)) for a in (self.yours, self.right)]
        inputs = dict(zip([n.removeprefix("d") for n in names], self.inputs.values(), strict=False))
        return Facts(*arrays, inputs, self.planted)

    def is_wrong(self, name: str) -> bool:
        yours, right = self.yours[name], self.right[name]
        return yours.shape != right.shape or not close(yours, right, 1e-9)


def first_sentence(diagnosis: str) -> str:
    """Up to the first full stop or semicolon that ends a clause."""
    return re.split(r"(?<=[a-z0-9)\]])(?:\. |; |\.$)", diagnosis, maxsplit=1)[0]


def close(a: np.ndarray, b: np.ndarray, rtol: float = LOOSE) -> bool:
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= rtol * np.max(np.abs(b), initial=0.0) + 1e-12))


def check(diagnosis: str, facts: Facts) -> bool | None:
    """True or False; None where no rule knows the sentence."""
    sentence = first_sentence(diagnosis).removeprefix("two faults at once: ")
    if (known := re.match(r"(\w+:[\w-]+): ", sentence)) and known.group(1) in CATALOGUE:
        return known.group(1) in facts.planted
    if several := re.match(r"((?:\w+, )*\w+ and \w+) are each (.*)", sentence):
        rest = several.group(2).replace("what they should be", "what it should be")
        each = [check(f"{name} is {rest}", facts) for name in re.findall(r"\w+", several.group(1)) if name != "and"]
        return None if None in each else all(each)
    if several := re.match(rf"((?:\w+, )*\w+ and \w+) each ({'|'.join(SINGULAR)}) (.*)", sentence):
        names = [name for name in re.findall(r"\w+", several.group(1)) if name != "and"]
        verb, rest = SINGULAR[several.group(2)], several.group(3).replace(", and are", ", and is")
        each = [check(f"{name} {verb} {rest}", facts) for name in names]
        return None if None in each else all(each)
    for pattern, rule in RULES:
        if found := re.search(pattern, sentence):
            name = found.group(1)
            if name not in facts.yours:
                return None
            return facts.is_wrong(name) and rule(found, facts.yours[name], facts.right[name], facts)
    return None


def _times(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    return close(yours, float(m.group(2)) * right)


def _zero_where_wrong(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    wrong = np.abs(yours - right) > 1e-9 * np.max(np.abs(right))
    return bool(wrong.any() and not np.any(yours[wrong]))


def _right_for(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    """True along some axis: which one it is, depends on what its index is called."""
    good, bad = ([int(k) for k in re.findall(r"\d+", m.group(g))] for g in (2, 3))
    off = np.abs(yours - right) > 1e-9 * np.max(np.abs(right))
    for axis in range(off.ndim):
        rows = np.moveaxis(off, axis, 0).reshape(off.shape[axis], -1)
        if len(good) + len(bad) == len(rows) and not rows[good].any() and all(rows[k].any() for k in bad):
            return True
    return False


def _factor_elsewhere(factor: float, yours: np.ndarray, right: np.ndarray) -> bool:
    """The factor in some entries, and no error in the others."""
    size = LOOSE * np.max(np.abs(right))
    wrong = np.abs(yours - right) > size
    return bool(wrong.any() and not wrong.all() and np.all(np.abs(yours - factor * right)[wrong] <= size))


def _plus_itself(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    x = facts.inputs.get(m.group(4))
    return x is not None and close(yours, float(m.group(2)) * right + float(m.group(3)) * x, 1e-3)


def _shared_out(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    size = 1e-9 * np.max(np.abs(right))
    rest = np.abs(right) > size
    stray = np.sum(~rest & (np.abs(yours) > size))
    return int(m.group(2)) == stray and close(yours[rest], float(m.group(3)) * right[rest])


def _not_clipped(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    return close(np.clip(yours, float(m.group(2)), float(m.group(3))), right, 1e-3)


def _same_along(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    """The error is constant along as many axes as the sentence names."""
    nouns = re.split(r", | and ", m.group(2))
    error, size = yours - right, np.max(np.abs(yours - right))
    return any(np.max(np.ptp(error, axis=axes)) <= 1e-6 * size for axes in combinations(range(error.ndim), len(nouns)))


def _itself(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    return m.group(3) in facts.inputs and close(yours - right, float(m.group(2)) * facts.inputs[m.group(3)], 1e-3)


def _gradient_of(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    return m.group(2) in facts.right and close(yours, facts.right[m.group(2)])


def _flipped(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    return close(np.sort(yours, axis=None), np.sort(right, axis=None))


def _mask(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    off = np.abs(yours - right) > 1e-9 * np.max(np.abs(right))
    return bool(off.any() and not np.any(right[off]))


def _entry(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    index = tuple(int(k) for k in re.findall(r"\d+", m.group(2)))
    numbers = (yours[index], float(m.group(3))), (right[index], float(m.group(4)))
    return all(abs(a - b) <= 1e-3 * max(abs(b), 1e-9) for a, b in numbers)


def _repeated(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    """The sum or the mean over as many axes as the sentence names, repeated."""
    count = len(re.split(r", | and ", m.group(3)))
    make = np.sum if m.group(2) == "sum" else np.mean
    every = combinations(range(right.ndim), count)
    return any(close(yours, np.broadcast_to(make(right, axis=a, keepdims=True), right.shape)) for a in every)


def _two_factors(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    """A matrix of ratios of rank one, between the two numbers told."""
    ratio = yours / right
    span = abs(ratio.min() - float(m.group(2))) + abs(ratio.max() - float(m.group(3)))
    cross = ratio[:-1, :-1] * ratio[1:, 1:] - ratio[:-1, 1:] * ratio[1:, :-1] if ratio.ndim == 2 else np.zeros(1)
    return bool(span <= 1e-3 * ratio.max() and np.max(np.abs(cross)) <= 1e-6 * ratio.max() ** 2)


def _looked_up(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    """Of an input that is there, at places that it has."""
    array = facts.inputs.get(m.group(2))
    places = [tuple(int(k) for k in re.findall(r"\d+", where)) for where in m.groups()[2:]]
    return array is not None and all(index in np.ndindex(array.shape) for index in places)


def _anything(m: re.Match, yours: np.ndarray, right: np.ndarray, facts: Facts) -> bool:
    return True


SINGULAR = {"have": "has", "count": "counts", "leave": "leaves", "hold": "holds", "take": "takes"}
RULES = (
    (rf"^(\w+) is {NUMBER} times what it should be plus {NUMBER} times (\w+) itself", _plus_itself),
    (
        rf"^(\w+) is {NUMBER} times what it should be .*right elsewhere",
        lambda m, yours, right, facts: _factor_elsewhere(float(m.group(2)), yours, right),
    ),
    (
        r"^(\w+) has the wrong sign .*right elsewhere",
        lambda m, yours, right, facts: _factor_elsewhere(-1.0, yours, right),
    ),
    (r"^(\w+) is the absolute value of what it should be", lambda m, yours, right, facts: close(yours, np.abs(right))),
    (rf"^(\w+) has to be 0 at (\d+) of \d+ entries that do not move y, and is {NUMBER} times", _shared_out),
    (rf"^(\w+) is right up to a certain size, but should not go beyond {NUMBER} \.\. {NUMBER}", _not_clipped),
    (
        r"^(\w+) is 0 where it should be something, and something where it should be 0",
        lambda m, yours, right, facts: np.max(np.abs(yours * right)) <= 1e-12 * np.max(np.abs(right)) ** 2,
    ),
    (rf"^(\w+) is {NUMBER} times what it should be", _times),
    (r"^(\w+) has the wrong sign$", lambda m, yours, right, facts: close(yours, -right)),
    (r"^(\w+) is all zeros", lambda m, yours, right, facts: not np.any(yours)),
    (r"^(\w+) is right where it is not zero", _zero_where_wrong),
    (r"^(\w+) is right for [a-z ]+? (\d[\d, and]*)(?: along axis \d)?, wrong for [a-z ]+? (\d[\d, and]*)", _right_for),
    (r"^(\w+) has to be 0 .* and is right elsewhere", _mask),
    (
        r"^(\w+) is 0 up to rounding",
        lambda m, yours, right, facts: np.max(np.abs(yours)) < 1e-12 * np.max(np.abs(right)),
    ),
    (r"^(\w+) holds whole numbers", lambda m, yours, right, facts: np.array_equal(yours, np.round(yours))),
    (r"^(\w+) is the same along .*: it is the (sum|mean) over ([\w ,-]+) of what", _repeated),
    (rf"^(\w+) is the right one times a factor for each .*together {NUMBER} to {NUMBER}", _two_factors),
    (r"^(\w+) meets the wrong numbers of (\w+): .* by \w+(\[[\d, ]+\]), and should be by \w+(\[[\d, ]+\])", _looked_up),
    (r"^(\w+) has shape", lambda m, yours, right, facts: yours.shape != right.shape),
    (r"^the error of (\w+) is the same number along ([\w ,-]+)", _same_along),
    (rf"^the error of (\w+) is {NUMBER} times (\w+) itself", _itself),
    (r"^(\w+) is the gradient (\w+)", _gradient_of),
    (r"^(\w+) is (?:transposed|flipped)", _flipped),
    (r"^(\w+) has the right numbers", _flipped),
    (rf"^(\w+) is wrong .*?\w+(\[[\d, ]+\]) is {NUMBER} and should be {NUMBER}", _entry),
    (r"^(\w+) is wrong", _anything),
)
"""(pattern, rule): group 1 is the tensor; any rule also asks that this tensor is wrong."""
