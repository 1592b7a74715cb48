"""One tensor's gradient against numerical derivatives: which entries, which step, what verdict.

Small tensors are checked entry by entry. Large ones by a sample of entries, plus random directions that move every
entry at once: an error in any entry shows in the derivative along each direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from minires.backend import Array
from minires.gradcheck import kinks, noise, numerical
from minires.gradcheck.kinks import Switch
from minires.gradcheck.numerical import Probe
from minires.gradcheck.probing import Measured, Plan, Tally
from minires.gradcheck.report import TensorReport

RESOLUTION = 1e-3
"""`pass` promises that an error of this size, relative to the typical entry, would have been seen."""

ON_SWITCH = 2.0**-10
"""A step this much smaller still crosses only if the point lies on the switch itself."""

OWN_ROUNDINGS = 1024
"""A gradient is itself computed, and sums of a thousand terms are usual in it: of its largest entry, so many roundings
are no error anywhere in it."""

UNSETTLED = 1e-3
"""A derivative that two steps tell with so large a relative difference is not known yet."""

LOOKED_AT = 12
"""Probes of a tensor that are asked whether they cross a kink, the most suspicious first."""

Evaluate = Callable[[Array], tuple[Array, list[Switch] | None]]
"""The value of one tensor -> the output y, and the state of all switches (None where they cannot be seen)."""


class Examination:
    """The check of one tensor at one point."""

    def __init__(self, value: Array, evaluate: Evaluate, dy: Array, plan: Plan) -> None:
        self.value, self.evaluate, self.dy, self.plan = value, evaluate, dy, plan
        self.y0, self.switches = evaluate(value)
        self.reach = None if self.switches is None or plan.method == "complex" else kinks.Reach(self.switches)
        self.scale = numerical.typical_size(value)
        self.total = float(np.sum(np.abs(dy) * np.maximum(np.abs(self.y0), _rms(self.y0))))

    def run(self, name: str, gradient: Array) -> tuple[TensorReport, Measured]:
        """Holds `gradient` (of value's shape) against the numerical one."""
        size = self.value.size
        entries = np.arange(size)
        if size > self.plan.max_entries:
            entries = np.sort(self.plan.rng.choice(size, self.plan.max_entries, replace=False))
        step = self._step(entries)
        tally = Tally()
        for index in entries:
            self._probe(tally, int(index), step, str(_position(index, self.value.shape)), gradient)
        for number in range(self.plan.directions if len(entries) < size else 0):
            direction = self.plan.rng.choice([-1.0, 1.0], size) / math.sqrt(size)
            self._probe(tally, direction, step, f"line {number + 1}", gradient)
        return self._judge(name, gradient, tally, entries)

    def _step(self, entries: np.ndarray) -> float:
        """The step for all probes, by a few pilots: a coarse step shows the curvature, a fine one the noise."""
        if self.plan.method == "complex":
            return 1.0
        u, pilots = self.plan.u, []
        coarse, fine = numerical.pilot_step(self.scale, u), numerical.largest_step(self.scale, u)
        for index in self.plan.rng.choice(entries, min(self.plan.pilots, len(entries)), replace=False):
            pilot = self._measure(int(index), coarse)[0]
            close = self._measure(int(index), fine)[0]
            error = max(u * close.size, 3 * close.bend / noise.FOURTH_DIFFERENCE)
            seen = max(pilot.truncation - numerical.ROUNDING_FACTOR * error / coarse, 0.0)
            pilots.append(replace(pilot, truncation=seen, size=error / u))
        return numerical.power_of_two(numerical.choose_step(pilots, self.scale, u))

    def _along(self, line: int | np.ndarray) -> np.ndarray:
        """A direction in the tensor's shape; for an entry, the unit vector."""
        if isinstance(line, np.ndarray):
            return line.reshape(self.value.shape)
        unit = np.zeros(self.value.size)
        unit[line] = 1.0
        return unit.reshape(self.value.shape)

    def _measure(self, line: int | np.ndarray, step: float) -> tuple[Probe, list[list[Switch] | None]]:
        """The probe along `line`, and the switches as they stood at the outermost points.

        A step that leaves the domain of forward (a logarithm of small numbers, say) is made smaller.
        """
        probe, sides = self._measure_once(line, step)
        for smaller in (step / 1e3, step / 1e6):
            if math.isfinite(probe.value) or self.plan.method == "complex":
                break
            probe, sides = self._measure_once(line, smaller)
        return probe, sides

    def _measure_once(self, line: int | np.ndarray, step: float) -> tuple[Probe, list[list[Switch] | None]]:
        direction, seen = self._along(line), {}

        def at(t: complex) -> Array:
            y, seen[t] = self.evaluate(self.value + t * direction)
            return y

        if self.plan.method == "complex":
            probe = numerical.probe_complex(at, self.dy, self.scale)
            return probe, list(seen.values())
        reach = 0.0 if _exact(self.value, line, step) else float(np.sqrt(np.sum(np.square(self.value[direction != 0]))))
        probe = numerical.probe_central(at, self.dy, self.y0, step, reach)
        return probe, [seen[2 * step], seen[-2 * step]]

    def _probe(self, tally: Tally, line: int | np.ndarray, step: float, label: str, gradient: Array) -> None:
        probe, sides = self._measure(line, step)
        tally.labels.append(label)
        tally.lines.append(line)
        flat = gradient.ravel()
        tally.claims.append(float(np.sum(flat * line) if isinstance(line, np.ndarray) else flat[line]))
        tally.probes.append(probe)
        if self.reach is None:
            tally.crossed.append(self.plan.method == "complex" and kinks.touched(sides[0]))
            tally.on_switch += tally.crossed[-1]
            return
        tally.crossed.append(self.reach.add(*sides))
        if tally.crossed[-1]:
            _, close = self._measure(line, step * ON_SWITCH)
            tally.on_switch += kinks.Reach(self.switches).add(*close)

    def _judge(self, name: str, gradient: Array, tally: Tally, entries: np.ndarray) -> tuple[TensorReport, Measured]:
        values = np.array([p.value for p in tally.probes])
        claims = np.array(tally.claims)
        crossed, amplified = self._kinks_and_noise(tally, entries)
        bounds = np.array([self._bound(p, amplified) for p in tally.probes])
        own = OWN_ROUNDINGS * self.plan.u * float(np.max(np.abs(claims), initial=0.0))
        bounds = np.maximum(bounds, own)
        usable = ~crossed & np.isfinite(values)
        excess = self._excess(tally, claims, values, bounds, usable, (own, amplified))
        errors = np.abs(claims - values)
        worst = int(np.argmax(excess))
        measured = Measured(entries, *(a[: len(entries)] for a in (values, bounds, usable)))
        verdict, reason = self._verdict(gradient, tally, values, bounds, usable, excess)
        report = TensorReport(
            name,
            self.value.shape,
            verdict,
            reason,
            self._coverage(entries, tally),
            tally.labels[worst],
            claims[worst],
            values[worst],
            errors[worst],
            bounds[worst],
            int(np.sum(crossed)),
            None if self.reach is None else self.reach.crossed,
            None if self.reach is None else self.reach.expected,
        )
        return report, measured

    def _bound(self, probe: Probe, amplified: float) -> float:
        """How far a probe may be from the derivative."""
        return probe.bound(noise.error(probe, self.plan.u, amplified))

    def _excess(
        self, tally: Tally, claims: Array, values: Array, bounds: Array, usable: Array, noise_of: tuple[float, float]
    ) -> np.ndarray:
        """Errors over bounds, -1 where a kink forbids it. The worst is looked at twice, which may change its bound.

        noise_of: the gradient's own rounding, no bound is smaller; and the amplification of rounding in forward.
        """
        least, amplified = noise_of
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = np.where(usable, np.abs(claims - values) / np.maximum(bounds, 1e-300), -1.0)
        excess[np.isnan(excess)] = np.inf
        if self.plan.method == "complex" and np.max(excess, initial=0.0) > 1:
            self._require_analytic(int(np.argmax(excess)), tally)

        def again(i: int) -> None:
            values[i], bounds[i] = self._look_twice(tally.probes[i], tally.lines[i], bounds[i], amplified)
            bounds[i] = max(bounds[i], least)
            excess[i] = abs(claims[i] - values[i]) / bounds[i] if bounds[i] > 0 else np.inf

        while self.plan.method == "central" and np.max(excess, initial=0.0) > 1:
            worst = int(np.argmax(excess))
            again(worst)
            if not excess[worst] <= 1:  # it is wrong; the diagnosis rests on what the others should be
                for i in np.flatnonzero(excess > 1):
                    if tally.probes[i].truncation > UNSETTLED * abs(values[i]):
                        again(int(i))
                break
        return excess

    def _look_twice(self, probe: Probe, line: int | np.ndarray, bound: float, amplified: float) -> tuple[float, float]:
        """Value and bound of a probe that disagrees: with finer steps, and with the noise of its own line.

        All outputs that may move count. The steps go on to where they suit the entry itself: 1 / x at a small x bends
        long before a step that suits the whole tensor. None is left out on the way: a kink whose bend happens to be 0
        at the first step (it lies at 2/3 of it) is told by the next.
        """
        direction = self._along(line)
        wide = numerical.widened(probe, lambda t: self.evaluate(self.value + t * direction)[0], self.dy, self.y0)
        size = 0.0 if isinstance(line, np.ndarray) else abs(float(self.value.flat[line]))
        small = numerical.power_of_two(numerical.largest_step(size, self.plan.u)) if size else probe.step
        ladder, step = [wide], probe.step
        while step > min(probe.step, small) * noise.FINEST_STEP:
            step /= 4
            ladder.append(self._measure(line, step)[0])
        ladder = [replace(p, size=max(p.size, wide.size)) for p in ladder if math.isfinite(p.value)]
        if not ladder:
            return probe.value, bound
        own = noise.along_line(ladder, self.plan.u)
        bounds = [self._bound(p, max(own, amplified) if noise.is_flat(p) else own) for p in ladder]
        if ladder[0].step == probe.step:
            bounds[0] = max(bounds[0], bound)
        return noise.best(ladder, bounds)

    def _require_analytic(self, worst: int, tally: Tally) -> None:
        """ValueError if the complex step itself is wrong: plain differences agree with the claim and not with it."""
        direction = self._along(tally.lines[worst])
        step = self.plan.u ** (1 / 3) * self.scale
        real = numerical.probe_central(
            lambda t: self.evaluate(self.value + t * direction)[0], self.dy, self.y0, step, _rms(self.value)
        )
        bound = real.bound(self.plan.u * real.size)
        if abs(tally.claims[worst] - real.value) <= bound < abs(tally.probes[worst].value - real.value):
            raise ValueError(
                'method="complex" gives another derivative than plain differences: forward is not analytic (np.var, '
                'np.abs, np.maximum, conj or a float buffer drop the imaginary part). Use method="central"'
            )

    def _kinks_and_noise(self, tally: Tally, entries: np.ndarray) -> tuple[np.ndarray, float]:
        """Which probes crossed a kink, and how many times larger than u S the error of an evaluation is."""
        crossed = np.array(tally.crossed, dtype=bool)
        if self.plan.method == "complex":
            return crossed, 1.0
        u, probes = self.plan.u, tally.probes
        if self.switches is None:
            crossed, ratios = self._bent(tally, entries)
        else:
            ratios = [noise.ratio(p, u) for p, c in zip(probes, crossed, strict=True) if not c]
        for number in range(noise.ENOUGH - len(ratios) if not crossed.any() else 0):
            line, step = tally.lines[number % len(probes)], probes[number % len(probes)].step
            ratios.append(noise.ratio(self._measure(line, step / 2 ** (1 + number // len(probes)))[0], u))
        return crossed, noise.amplification([r for r in ratios if math.isfinite(r)])

    def _bent(self, tally: Tally, entries: np.ndarray) -> tuple[np.ndarray, list[float]]:
        """Kinks of a function whose switches cannot be seen, and the noise ratios of the probes that have none."""
        u, probes = self.plan.u, tally.probes
        crossed, ratios = np.zeros(len(probes), dtype=bool), []
        suspicious = [i for i, p in enumerate(probes) if noise.is_suspicious(p, u)]
        suspicious.sort(key=lambda i: noise.ratio(probes[i], u), reverse=True)
        for i in suspicious[:LOOKED_AT]:
            line = tally.lines[i]
            crossed[i], quiet = noise.is_kink(probes[i], lambda step, line=line: self._measure(line, step)[0], u)
            ratios += quiet
        typical = noise.amplification(ratios)
        if crossed.any():
            for i in suspicious[LOOKED_AT:]:
                crossed[i] = noise.ratio(probes[i], u) > noise.SUSPICIOUS * typical
        for i in [i for i in np.flatnonzero(crossed) if i < len(entries)][:20]:
            close, _ = self._measure(tally.lines[i], probes[i].step * ON_SWITCH)
            tally.on_switch += close.bend > noise.SUSPICIOUS * typical * u * probes[i].size
        calm = set(range(len(probes))) - set(suspicious)
        return crossed, ratios + [noise.ratio(probes[i], u) for i in calm]

    def _verdict(
        self,
        gradient: Array,
        tally: Tally,
        values: np.ndarray,
        bounds: np.ndarray,
        usable: np.ndarray,
        excess: np.ndarray,
    ) -> tuple[str, str]:
        if not np.all(np.isfinite(values)):
            return "fail", "forward is not finite a small step away from this point"
        if np.any(excess > 1):
            return "fail", f"{int(np.sum(excess > 1))} of {int(np.sum(usable))} differ by more than the bound"
        crossings = int(np.sum(~usable))
        if (kink := self._kink(tally, crossings, len(usable))) is not None:
            return "kink", kink
        nothing = 64 * self.plan.u * self.total / self.scale
        if np.max(np.abs(gradient), initial=0.0) <= nothing and np.all(np.abs(values) <= bounds + nothing):
            return "vacuous", "the gradient is zero whatever is done here, so a backward that returns 0 would pass"
        if self.plan.u > numerical.ROUNDOFF["float64"]:
            return "roundoff", "computed in float32: nothing finer than its rounding can be seen; use float64"
        positive = bounds[usable][bounds[usable] > 0]
        if len(positive) and np.median(positive) > RESOLUTION * _rms(values[usable]):
            return "roundoff", (
                f"entries of about {_rms(values[usable]):.1e}, but this step resolves {np.median(positive):.1e}: "
                'scale the loss up, or use method="complex"'
            )
        left_out = f" ({crossings} left out at a kink" if crossings else ""
        if crossings and self.reach is not None:
            left_out += f": {self._crossed()}"
        return "pass", "agrees within the estimated numerical error" + (left_out and left_out + ")")

    def _kink(self, tally: Tally, crossings: int, probes: int) -> str | None:
        """Why the kinks spoil this check, or None if they are few enough."""
        if tally.on_switch:
            return (
                f"{tally.on_switch} of {probes} entries lie on a switch (a ReLU input of exactly 0, a tie in a "
                "max-pool): there is no derivative there"
            )
        if crossings > probes / 2:
            return f"{crossings} of {probes} steps crossed a kink: what is left says too little"
        if self.reach is not None and self.reach.crossed > kinks.poisson_quantile(self.reach.expected):
            return f"the steps crossed {self._crossed()}"
        return None

    def _crossed(self) -> str:
        count = self.reach.crossed
        return f"{count} switch{'es' * (count != 1)}, where the law expects {self.reach.expected:.2g}"

    def _coverage(self, entries: np.ndarray, tally: Tally) -> str:
        """How much of the tensor was looked at: "all 60", or "40 of 2304 +2" (random directions)."""
        directions = len(tally.probes) - len(entries)
        if not directions:
            return f"all {self.value.size}"
        return f"{len(entries)} of {self.value.size} +{directions}"


def _exact(value: Array, line: int | np.ndarray, step: float) -> bool:
    """Whether an entry moves by its steps without rounding."""
    if isinstance(line, np.ndarray):
        return False
    x, steps = float(value.flat[line]), (step, -step, 2 * step, -2 * step)
    return abs(x) < step or all((x + t) - x == t for t in steps)


def _rms(x: Array) -> float:
    return math.sqrt(np.mean(np.square(x))) if x.size else 0.0


def _position(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(index, shape)) if shape else ()
