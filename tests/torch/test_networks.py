"""Whole networks beside PyTorch: five training steps, running statistics, evaluation, the optimizer's variants."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from minires import init, nn, optim  # noqa: E402
from tests.torch.networks import ResNet, numbers  # noqa: E402

TOLERANCE = 1e-10
STEPS = 5


def close(got, expected, what):
    scale = max(1.0, np.abs(expected).max())
    error = np.abs(np.asarray(got) - expected).max() / scale
    assert error <= TOLERANCE, f"{what}: {error:.1e}"


def twins(make, **options):
    """The same network in both libraries, float64, with the same random weights, gains and biases."""
    torch.manual_seed(0)
    theirs = ResNet(**options).double()
    with torch.no_grad():
        for p in theirs.parameters():
            if p.ndim == 1:
                p += 0.2 * torch.randn_like(p)
    ours = make().astype("float64")
    assert init.from_pretrained(ours, numbers(theirs.state_dict())).ok
    return ours, theirs


def batch(step, size, n=8):
    rng = np.random.default_rng(step)
    return rng.standard_normal((n, 3, *size)), rng.integers(0, 10, n)


def train_beside_each_other(ours, theirs, size, settings):
    """Forward, loss, backward, SGD: every number compared in each of the steps."""
    optimizer = optim.SGD(ours.parameters(), **settings)
    their_optimizer = torch.optim.SGD(theirs.parameters(), **settings)
    loss = nn.SoftmaxCrossEntropy()
    for step in range(STEPS):
        x, labels = batch(step, size)
        logits = ours.forward(x)
        value = loss.forward(logits, labels)
        ours.zero_grad()
        dx = ours.backward(loss.backward())

        their_optimizer.zero_grad()
        their_x = torch.tensor(x, requires_grad=True)
        their_logits = theirs(their_x)
        their_value = torch.nn.functional.cross_entropy(their_logits, torch.tensor(labels))
        their_value.backward()

        close(logits, their_logits.detach().numpy(), f"logits, step {step}")
        close(value, their_value.detach().numpy(), f"loss, step {step}")
        close(dx, their_x.grad.numpy(), f"dx, step {step}")
        gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
        for p in ours.parameters():
            close(p.grad, gradients[p.name], f"gradient of {p.name}, step {step}")
        optimizer.step()
        their_optimizer.step()
        their_state = numbers(theirs.state_dict())
        for name, array in ours.state_dict().items():
            close(array, their_state[name], f"{name} after step {step}")


def test_five_steps_of_resnet20():
    """Momentum and weight decay as in the paper; 32x32 images."""
    ours, theirs = twins(nn.resnet20)
    train_beside_each_other(ours, theirs, (32, 32), {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4})


@pytest.mark.parametrize("shortcut", ["A", "B", None])
@pytest.mark.parametrize("settings", [{"momentum": 0.9, "nesterov": True}, {"momentum": 0.0}])
def test_five_steps_of_small_networks(shortcut, settings):
    """Odd sizes, strong weight decay, a small learning rate and a large one."""
    options = {"width": 4, "shortcut": shortcut}
    ours, theirs = twins(lambda: nn.resnet(8, **options), blocks_per_stage=1, **options)
    train_beside_each_other(ours, theirs, (11, 7), {"lr": 0.05, "weight_decay": 0.1, **settings})


def test_clipping_differs_by_pytorchs_small_constant_alone():
    """PyTorch divides by norm + 1e-6, minires by norm + 1e-12: with the norm near 1e4 that is below rounding."""
    ours, theirs = twins(lambda: nn.resnet(8, width=4), blocks_per_stage=1, width=4)
    found = ours.parameters()
    by_name = dict(theirs.named_parameters())
    rng = np.random.default_rng(0)
    for p in found:
        p.grad = 1e5 * rng.standard_normal(p.value.shape)
        by_name[p.name].grad = torch.tensor(p.grad)
    close(optim.clip_grad_norm(found, 2.0), torch.nn.utils.clip_grad_norm_(theirs.parameters(), 2.0).numpy(), "norm")
    for p in found:
        close(p.grad, by_name[p.name].grad.numpy(), p.name)


def test_evaluation_and_its_backward():
    """Running statistics after two steps, then logits and dx with them frozen."""
    ours, theirs = twins(nn.resnet20)
    for step in range(2):
        x, _ = batch(step, (16, 16))
        ours.forward(x)
        theirs(torch.tensor(x))
    ours.eval()
    theirs.eval()
    x, _ = batch(7, (16, 16), n=3)
    their_x = torch.tensor(x, requires_grad=True)
    logits, their_logits = ours.forward(x), theirs(their_x)
    close(logits, their_logits.detach().numpy(), "logits")
    dy = np.random.default_rng(3).standard_normal(logits.shape)
    their_logits.backward(torch.tensor(dy))
    close(ours.backward(dy), their_x.grad.numpy(), "dx")


def test_weights_go_back_to_pytorch():
    """minires' state dict loads into PyTorch's network: the same names, nothing missing but the counters."""
    ours = nn.resnet20(shortcut="B")
    state = {name: torch.tensor(array) for name, array in ours.state_dict().items()}
    missing, unexpected = ResNet(shortcut="B").load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)


@pytest.mark.parametrize(("schedule", "make"), [
    (optim.Step(0.1, (3, 5), 0.1), lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 5], 0.1)),
    (optim.Cosine(0.1, 8, 0.01), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8, 0.01)),
])  # fmt: skip
def test_schedules_are_pytorchs(schedule, make):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = make(optimizer)
    for step in range(9):
        assert schedule(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-10, abs=1e-12)
        optimizer.step()
        theirs.step()
