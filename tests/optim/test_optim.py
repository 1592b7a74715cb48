"""SGD against its formula on known gradients, clipping, schedules at their corners, and wrong input."""

import math
from itertools import pairwise

import numpy as np
import pytest

from minires import nn, optim
from tests.refusals import refused


def parameters(dtype=np.float64):
    """A weight and a bias, with names, as a model would give them."""
    layer = nn.Linear(4, 3, rng=0).astype(dtype)
    layer.bias.value = np.array([0.5, -1.0, 2.0], dtype)
    return layer.parameters()


def set_gradients(found, seed):
    rng = np.random.default_rng(seed)
    for p in found:
        p.grad = rng.standard_normal(p.value.shape).astype(p.value.dtype)
    return [p.grad.astype(np.float64) for p in found]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("decay_all", [True, False])
def test_sgd_is_its_formula(nesterov, decay, decay_all):
    """g = g + d w; v = mu v + g; w = w - lr v, or w - lr (g + mu v); with a rate that changes between steps."""
    found = parameters()
    optimizer = optim.SGD(found, lr=0.3, momentum=0.8, nesterov=nesterov, weight_decay=decay, decay_all=decay_all)
    weights = [p.value.copy() for p in found]
    velocities = [np.zeros_like(w) for w in weights]
    for step in range(5):
        optimizer.lr = 0.3 / (step + 1)
        for i, g in enumerate(set_gradients(found, step)):
            if decay_all or i == 0:
                g = g + decay * weights[i]
            velocities[i] = 0.8 * velocities[i] + g
            weights[i] = weights[i] - optimizer.lr * (g + 0.8 * velocities[i] if nesterov else velocities[i])
        optimizer.step()
        for p, w in zip(found, weights, strict=True):
            np.testing.assert_allclose(p.value, w, rtol=0, atol=1e-14)


def test_weight_decay_shrinks_geometrically():
    """Without momentum and with zero gradients, w_n = (1 - lr d)^n w_0."""
    found = parameters()
    start = found[0].value.copy()
    optimizer = optim.SGD(found, lr=0.5, momentum=0.0, weight_decay=0.2)
    for _ in range(4):
        optimizer.step()
    np.testing.assert_allclose(found[0].value, 0.9**4 * start, rtol=1e-14)


def test_momentum_of_a_constant_gradient_ends_at_lr_over_one_minus_momentum():
    found = parameters()
    optimizer = optim.SGD(found, lr=0.1, momentum=0.9)
    for _ in range(400):
        before = found[1].value.copy()
        found[1].grad = np.ones(3)
        optimizer.step()
    np.testing.assert_allclose(before - found[1].value, 0.1 / (1 - 0.9), rtol=1e-9)


def test_sgd_minimizes_a_quadratic():
    """1/2 x^T diag(1, 10) x: heavy-ball momentum of 0.5 and lr 0.1 contracts both directions."""
    layer = nn.Linear(2, 1, bias=False, rng=0).astype("float64")
    optimizer = optim.SGD(layer.parameters(), lr=0.1, momentum=0.5)
    for _ in range(200):
        layer.weight.grad = layer.weight.value * np.array([1.0, 10.0])
        optimizer.step()
    assert np.abs(layer.weight.value).max() < 1e-8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_stays(dtype):
    found = parameters(dtype)
    optimizer = optim.SGD(found, np.float64(0.1), np.float64(0.9), nesterov=True, weight_decay=np.float64(1e-4))
    optimizer.lr = np.float64(0.05)
    set_gradients(found, 0)
    optim.clip_grad_norm(found, 0.5)
    optimizer.step()
    assert all(p.value.dtype == p.grad.dtype == dtype for p in found)
    assert all(v.dtype == dtype for v in optimizer.state_dict().values())


def test_a_step_changes_no_gradient_and_no_array_in_place():
    """Somebody who kept the old weights (a checkpoint being written, say) must not see them change."""
    found = parameters()
    kept = [(p.value, p.value.copy(), p.grad) for p in found]
    set_gradients(found, 0)
    grads = [p.grad.copy() for p in found]
    optim.SGD(found, weight_decay=0.1).step()
    assert all(np.array_equal(value, copy) for value, copy, _ in kept)
    assert all(np.array_equal(p.grad, g) for p, g in zip(found, grads, strict=True))


def test_state_continues_the_run():
    """Ten steps are the same as five, a new optimizer with the state, and five more: bit for bit."""
    whole, halves = parameters(), parameters()
    one, first = (optim.SGD(p, 0.1, nesterov=True) for p in (whole, halves))
    for step in range(10):
        if step == 5:
            state = first.state_dict()
            first = optim.SGD(halves, 0.1, nesterov=True)
            first.load_state_dict(state)
        for found, optimizer in ((whole, one), (halves, first)):
            set_gradients(found, step)
            optimizer.step()
    for a, b in zip(whole, halves, strict=True):
        assert a.value.tobytes() == b.value.tobytes()


def test_state_is_a_copy():
    found = parameters()
    optimizer = optim.SGD(found)
    state = optimizer.state_dict()
    set_gradients(found, 0)
    optimizer.step()
    assert all(not v.any() for v in state.values()) and set(state) == {"weight", "bias"}


def joint_norm(found):
    return math.sqrt(sum(float((p.grad**2).sum()) for p in found))


def test_clipping_scales_all_gradients_by_one_factor():
    found = parameters()
    before = set_gradients(found, 0)
    norm = joint_norm(found)
    assert float(optim.clip_grad_norm(found, 0.5)) == pytest.approx(norm, rel=1e-14)
    assert joint_norm(found) == pytest.approx(0.5, rel=1e-6)
    for p, g in zip(found, before, strict=True):
        np.testing.assert_allclose(p.grad, g * (0.5 / norm), rtol=1e-6)


def test_short_gradients_are_left_alone():
    found = parameters()
    before = set_gradients(found, 0)
    optim.clip_grad_norm(found, 1e3)
    assert all(np.array_equal(p.grad, g) for p, g in zip(found, before, strict=True))
    for p in found:
        p.grad = np.zeros_like(p.grad)
    assert float(optim.clip_grad_norm(found, 1.0)) == 0
    assert all(not p.grad.any() for p in found)


def test_schedules():
    assert optim.Constant(0.3)(10**6) == 0.3
    step = optim.Step(0.1, (3, 5), 0.1)
    assert [step(i) for i in (0, 2, 3, 4, 5, 9)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    cosine = optim.Cosine(0.4, 10, final=0.1)
    assert [cosine(i) for i in (0, 5, 10, 99)] == pytest.approx([0.4, 0.25, 0.1, 0.1])
    assert all(cosine(i) > cosine(i + 1) for i in range(10))


def test_warmup_climbs_to_the_schedule_and_hands_over():
    """A straight line from `start` to 1 times the schedule's rate: it never overshoots and ends in it."""
    warm = optim.Warmup(optim.Constant(0.4), 4, start=0.25)
    rates = [warm(i) for i in range(7)]
    assert all(0.4 * 0.25 <= a < b <= 0.4 for a, b in pairwise(rates[:4]))
    assert np.ptp(np.diff(rates[:4])) < 1e-15
    assert rates[4:] == [0.4] * 3
    decaying = optim.Warmup(optim.Step(1.0, (6,)), 4)
    assert decaying(5) == 1.0 and decaying(6) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay"])
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_negative_settings_are_refused(name, value):
    with refused(ValueError, name, str(value)):
        optim.SGD(parameters(), **{name: value})


def test_other_wrong_input_is_refused():
    with refused(TypeError, "lr", "'fast'"):
        optim.SGD(parameters(), lr="fast")
    with refused(ValueError, "nesterov", "True"):
        optim.SGD(parameters(), momentum=0.0, nesterov=True)
    with refused(ValueError, "parameters", "empty"):
        optim.SGD([])
    with refused(ValueError, "max_norm", "0"):
        optim.clip_grad_norm(parameters(), 0)
    with refused(ValueError, "parameters", "empty"):
        optim.clip_grad_norm([], 1.0)
    with refused(ValueError, "steps", "0"):
        optim.Cosine(0.1, 0)(0)
    optimizer = optim.SGD(parameters())
    with refused(ValueError, "state", "weight"):
        optimizer.load_state_dict({"weight": np.zeros((3, 4))})
    with refused(ValueError, "weight", "(4, 3)"):
        optimizer.load_state_dict({"weight": np.zeros((4, 3)), "bias": np.zeros(3)})


def test_velocities_keep_the_names_of_the_call():
    model = nn.resnet(8, width=4)
    optimizer = optim.SGD(model.parameters())
    names = set(optimizer.state_dict())
    for _, layer in model.children():
        layer.parameters()  # which names them anew
    assert set(optimizer.state_dict()) == names == {p.name for p in model.parameters()}


def test_two_models_in_one_optimizer_keep_their_velocities_apart():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = optim.SGD(a.parameters() + b.parameters())
    assert list(optimizer.state_dict()) == ["weight", "bias", "weight-2", "bias-2"]


def test_a_parameter_given_twice_moves_once():
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.grad = np.ones((2, 2), np.float32)
    before = layer.weight.value.copy()
    optim.SGD([layer.weight, layer.weight], lr=0.1, momentum=0).step()
    assert np.allclose(layer.weight.value - before, -0.1)


def test_milestones_may_be_a_generator():
    schedule = optim.Step(1.0, (n for n in (2, 4)))
    assert [schedule(step) for step in (0, 3, 5, 5, 0)] == pytest.approx([1, 0.1, 0.01, 0.01, 1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.SGD([], momentum=0.9),
        lambda: optim.SGD(nn.Linear(2, 2).parameters(), momentum=3),
        lambda: optim.SGD(nn.Linear(2, 2).parameters(), momentum=1),
        lambda: optim.SGD(nn.Linear),
        lambda: optim.SGD(0.1),
        lambda: optim.SGD(nn.Linear(2, 2).state_dict()),
        lambda: optim.SGD(nn.Linear(2, 2), decay_all="biases"),
        lambda: setattr(optimizer := optim.SGD(nn.Linear(2, 2)), "lr", float("nan")) or optimizer.step(),
        lambda: optim.Constant("0.1"),
        lambda: optim.Constant(-1),
        lambda: optim.Constant(float("nan")),
        lambda: optim.Step(0.1, 30),
        lambda: optim.Step(0.1, "30"),
        lambda: optim.Cosine(0.1, 0),
        lambda: optim.Warmup(optim.Cosine, 3),
        lambda: optim.Warmup(0.1, 3),
        lambda: optim.Warmup(optim.Constant(0.1), -1),
        lambda: optim.clip_grad_norm(nn.Linear(2, 2).parameters(), "1"),
        lambda: optim.clip_grad_norm(np.ones(3), 1.0),
        lambda: optim.clip_grad_norm(np.array(1.0), 1.0),
    ],
)
def test_settings_that_make_no_sense(make):
    with pytest.raises((TypeError, ValueError), match="expected"):
        make()


@pytest.mark.parametrize("schedule", [lambda: 0.1, nn.Linear(2, 2), optim.Constant, 0.1])
def test_warmup_asks_for_a_function_of_the_step(schedule):
    with pytest.raises(TypeError, match=r"schedule is .*; expected a function of the step"):
        optim.Warmup(schedule, 10)


def test_warmup_says_what_its_schedule_gave():
    with pytest.raises(TypeError, match="the schedule's rate"):
        optim.Warmup(lambda step: "fast", 10)(0)
