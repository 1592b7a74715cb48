"""Stochastic gradient descent with momentum."""

import numpy as np

from minires.course import drivers
from minires.course.checks import HandCheck, judged
from minires.course.declaration import Assignment, Caller, Mistake, Outcome, Part
from minires.course.differences import compare_results

PARTS = {"minires.optim:SGD.step": "sgd_step"}


def _steps(title: str, hidden: bool, steps: int = 3, **settings: object) -> HandCheck:
    def judge(caller: Caller, seed: int) -> Outcome | str | None:
        rng = np.random.default_rng(seed)
        values = [rng.standard_normal(shape) for shape in ((3, 4), (3,), (2, 2, 3, 3))]
        gradients = [[rng.standard_normal(v.shape) for v in values] for _ in range(steps)]
        given = {"lr": float(rng.uniform(0.05, 0.4)), "momentum": 0.0, **settings}
        yours = caller.call("driver:optimizer_steps", PARTS, values, gradients, given)
        right = drivers.optimizer_steps({}, PARTS, values, gradients, given)
        found = compare_results(yours, right, "the parameters", 1e-9)
        return judged(title, found, hidden)

    return HandCheck(title, judge, hidden)


ASSIGNMENT = Assignment(
    "sgd",
    "SGD with momentum",
    "Write the step of minires.optim.SGD. It is a method: self.parameters is a list with .value and .grad, "
    "self.velocities a list of arrays, and self.lr, self.momentum, self.weight_decay, self.decay_all and self.nesterov "
    "are the settings. With the gradient g of a parameter w, weight decay d and momentum m: g grows by d w, "
    "the velocity becomes m v + g, and w moves by -lr times the velocity (Nesterov: times g + m v).",
    parts=(
        Part(
            "minires.optim:SGD.step",
            8,
            [
                _steps("plain", False, 1),
                _steps("momentum", False, momentum=0.9),
                _steps("weight decay", True, weight_decay=0.3),
                _steps("momentum and weight decay", True, momentum=0.7, weight_decay=0.2),
                _steps("Nesterov", True, momentum=0.8, nesterov=True),
                _steps("biases spared from weight decay", True, weight_decay=0.4, decay_all=False),
            ],
            "sgd_step",
            "Momentum remembers: where is the velocity kept between two steps? Change no array in place.",
        ),
    ),
    mistakes=(
        Mistake("moves uphill", "sgd_step", "p.value - lr", "p.value + lr"),
        Mistake("velocity forgotten", "sgd_step", "velocity = self.velocities[i] =", "velocity ="),
        Mistake("weight decay forgotten", "sgd_step", "grad = grad + self.weight_decay * p.value", "pass"),
        Mistake("biases decay as well", "sgd_step", "(self.decay_all or p.value.ndim >= 2)", "True"),
        Mistake(
            "Nesterov ignored",
            "sgd_step",
            "(grad + self.momentum * velocity if self.nesterov else velocity)",
            "velocity",
        ),
        Mistake(
            "learning rate in the velocity", "sgd_step", "self.velocities[i] + grad", "self.velocities[i] + lr * grad"
        ),
    ),
)
