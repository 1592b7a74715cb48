"""The last one: the student's own parts under nn, and a residual network that reads digits."""

import numpy as np

from minires.course import drivers
from minires.course.checks import HandCheck, judged
from minires.course.declaration import ORDER, Assignment, Caller, Mistake, Outcome, Part
from minires.course.differences import compare_results

STEPS = 150
"""Training steps of the last check, with batches of 64."""

ENOUGH = 0.85
"""The part of the held-out digits that has to be right after them; guessing gives 0.1."""


def _step(title: str, hidden: bool) -> HandCheck:
    """Two steps on the engine's own parts: the same weights as the reference's."""

    def judge(caller: Caller, seed: int) -> Outcome | str | None:
        from minires.data import load_digits

        rng, data = np.random.default_rng(seed), load_digits()
        chosen = rng.permutation(len(data.x_train))[:16]
        images, labels = data.x_train[chosen].astype(np.float64), data.y_train[chosen]
        state = drivers.make_network("small", seed % 1000).astype(np.float64).state_dict()
        yours = caller.call("driver:one_step", {}, "train_step", state, images, labels)
        right = drivers.one_step({}, {}, "train_step", state, images, labels)
        found = compare_results(yours, right, "after two steps,", 1e-6)
        return judged(title, found, hidden)

    return HandCheck(title, judge, hidden)


def accuracy(state: dict, kind: str) -> float:
    """Of a network with these weights on the held-out digits. ValueError where they do not fit such a network."""
    from minires.data import load_digits

    data = load_digits()
    model = drivers.make_network(kind, 0)
    model.load_state_dict({k: np.asarray(v, np.float32) for k, v in state.items() if k != "loss"})
    model.eval()
    with np.errstate(all="ignore"):
        logits = model.infer(data.x_test)
    return float(np.mean(logits.argmax(axis=1) == data.y_test))


def journey_parts() -> dict[str, str]:
    """Every part of the earlier assignments that stands for one of the engine's own."""
    from minires.course.declaration import load

    earlier = [load(name) for name in ORDER[: ORDER.index("digits")]]
    found = {}
    for assignment in earlier:
        for part in assignment.parts if assignment.replaces else ():
            if part.cut.module.startswith(("minires.ops", "minires.nn", "minires.optim")) and "loops" not in part.name:
                found[f"{part.cut.module}:{part.cut.path}"] = part.name
    return found


def _training() -> HandCheck:
    """The whole engine, as far as it is the student's own, on real images."""

    def judge(caller: Caller, seed: int) -> Outcome | str | None:
        from minires.data import load_digits

        data = load_digits()
        trained = caller.call(
            "driver:train", journey_parts(), "train_step", "small", STEPS, data.x_train, data.y_train, 0.05
        )
        if not isinstance(trained, dict):
            return "the training gives no weights"
        try:
            found = accuracy(trained, "small")
        except (ValueError, TypeError) as error:
            return f"the weights after the training do not fit the network: {error}"
        if found >= ENOUGH:
            return None
        said = f"after {STEPS} steps {found:.0%} of the held-out digits are right; expected {ENOUGH:.0%}"
        return Outcome(0.0, ("wrong: training", said, said))

    return HandCheck("your own parts learn to read digits", judge, False, 3.0)


ASSIGNMENT = Assignment(
    "digits",
    "Your own engine reads digits",
    "Write one step of training. Then hand it in with the files of the earlier assignments beside it: a residual "
    "network is trained on handwritten digits with your own convolution, batch normalization, residual block and "
    "optimizer under it, as many of them as you hand in.",
    parts=(
        Part(
            "minires.train:train_step",
            10,
            [_step("two steps", False), _step("two steps on other images", True), _training()],
            hint="Four things happen in a fixed order. Gradients add up, so something has to be set to zero.",
        ),
    ),
    mistakes=(
        Mistake("gradients are not set to zero", "train_step", "model.zero_grad()", "pass"),
        Mistake("set to zero too late", "train_step", "optimizer.step()", "model.zero_grad(); optimizer.step()"),
        Mistake("no update", "train_step", "optimizer.step()", "pass"),
    ),
    needs=ORDER[:-1],
    call_seconds=60.0,
    total_seconds=180.0,
)
