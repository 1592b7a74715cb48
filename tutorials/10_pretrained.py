# %% [markdown]
# # Pretrained weights: the initialization that knows something, and what exactly it knows
#
# Somebody trained a ResNet-20 on CIFAR-10 and published its 269,722 numbers: an initializer like any other, except that
# it knows something. What, and in which layers?
# The page needs `cifar10` and `pretrained/resnet20-cifar10.safetensors` in MINIRES_DATA (see `minires data`). Without
# them a network trained here on 1,200 digits stands in for the published one, and 242 others are to be learned.
# Four times: **predict first**, put your guess where None stands, and run on. Takes about 5 s (real images: 15 s).
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import init, nn, optim, tutorial
from minires.checkpoint import CheckpointError, read_weights
from minires.data import DataError, Split, data_root, load, load_digits
from minires.ops import batchnorm_forward, conv2d_forward
from minires.plot.curves import draw_comparison
from minires.plot.style import caption, new_figure
from minires.train import fit
from minires.transfer import compare_starts, start_from


def real_images():
    weights = read_weights(data_root() / "pretrained" / "resnet20-cifar10.safetensors")
    x, y, x_test, y_test = load("cifar10")
    return weights, Split(x[:256], y[:256], x_test[:256], y_test[:256])


def digits_instead():
    x, y, x_test, y_test = load_digits()
    model, known = nn.resnet(8, in_channels=1, rng=1), Split(x[:1200], y[:1200], x_test, y_test)
    fit(model, known, epochs=4, batch_size=32, schedule=optim.Cosine(0.1, 4 * 38))
    return model.state_dict(), Split(x[1200:], y[1200:], x_test, y_test)


try:
    (weights, data), source = real_images(), "real images"
except (CheckpointError, DataError):
    (weights, data), source = digits_instead(), "digits"

# %% [markdown]
# ## Everything but the head
# The head (`linear`) turns features into answers; everything before it, the body, turns images into features. We take
# over the whole body and draw the head anew.
# **Predict first.** Which percentage of the test images does it get right, on average over many heads?
#
# **Predict first.** Which percentage of the network's numbers is in the last of its three stages?
# %%
tutorial.guess("10.1", None)
tutorial.guess("10.2", None)


# %%
def features(model, x):  # behind stem and stages: the mean of each map; BatchNorm by these images
    found = {}
    with model.observe(lambda layer, path, direction, before, after: found.setdefault(path, after)):
        model.forward(x)
    return [found[name].mean(axis=(2, 3)) for name in ("relu", "layer1", "layer2", "layer3")]


trained, heads = start_from(weights, ("conv1", "bn1", "layer1", "layer2", "layer3")), np.random.default_rng(0)
seen, unseen = features(trained, data.x_train), features(trained, data.x_test)
answers = [(unseen[-1] @ heads.standard_normal((64, 10))).argmax(axis=1) for _ in range(400)]
tutorial.reveal("10.1", 100 * np.mean(answers == data.y_test))
sizes = {p.name: p.value.size for p in trained.parameters()}
tutorial.reveal("10.2", 100 * sum(sizes[name] for name in sizes if "layer3" in name) / sum(sizes.values()))

# %% [markdown]
# ## Against He's law
# 128 images, one head, three starts: He's law; the trained body; the trained body, frozen: only the head learns.
#
# **Predict first.** How many numbers does the third one learn? (The last stage has 64 maps.)
# %%
tutorial.guess("10.3", None)
# %%
few = data._replace(x_train=data.x_train[:128], y_train=data.y_train[:128])
runs = compare_starts(weights, few, epochs=2, lr=0.05, batch_size=16, frozen=True)
he, *trained_starts = (history.column("test_accuracy") for history in runs.values())
assert np.all(np.array(trained_starts) > he)  # from the first epoch on
draw_comparison(runs, f"Trained starts are ahead of He's from the first epoch on ({source})")
tutorial.reveal("10.3", sizes["linear.weight"] + sizes["linear.bias"])

# %% [markdown]
# The right variance is worth less than knowledge, even if all else holds still (Yosinski et al., arXiv:1411.1792).
# ## Stage by stage
# A probe shows what a layer knows: the best *linear* head on its features alone (Alain, Bengio, arXiv:1610.01644).
#
# **Predict first.** A random network, as He's law draws it. Its probe behind the stem: at "chance", or "above" it?
# %%
tutorial.guess("10.4", None)


# %%
def probe(known, new, ridge=0.01):  # test accuracy (%) of the linear head with the least squared error
    center, scale = known.mean(axis=0), known.std(axis=0) + 1e-6
    a, b = (np.c_[(f - center) / scale, np.ones(len(f))] for f in (known, new))
    head = np.linalg.solve(a.T @ a + ridge * len(a) * np.eye(a.shape[1]), a.T @ np.eye(10)[data.y_train])
    return 100 * np.mean((b @ head).argmax(axis=1) == data.y_test)


random = start_from(weights, ())
other = [features(random, x) for x in (data.x_train, data.x_test)]
known, he = (list(map(probe, *pair)) for pair in ((seen, unseen), other))
tutorial.reveal("10.4", "above" if he[0] > 10 + 3 * np.sqrt(900 / len(data.y_test)) else "chance")  # three sd
assert known[3] - known[0] > he[3] - he[0] + 10
ax = new_figure(size=(8, 4.2), title="A trained network puts its answer together late")[1][0, 0]
ax.plot(known, "o-", label="trained"), ax.plot(he, "s--", label="He"), ax.axhline(10, color="k", ls=":", label="chance")
ax.set_xticks(range(4), ["stem", "stage 1", "stage 2", "stage 3"]), ax.legend(frameon=False)
caption(ax, f"The best linear head behind each part, on {source}", x="part of the network", y="test accuracy (%)")
plt.show()


# %% [markdown]
# ## Exercises
# 1. **Names.** Another author calls the same arrays `cnn.conv1.weight`, ..., and the head `cnn.classifier.weight`.
#    Return the dictionary under minires' names. (`init.from_pretrained` is strict: it says what does not fit.)
# 2. **Folding.** In evaluation BatchNorm is a linear map: find w2, b2 such that one convolution does the work of both,
#    $y = \gamma\,(\mathrm{conv}(x, w) - \mu)/\sqrt{v + \varepsilon} + \beta$.
# %%
def exercise_1(foreign):
    raise NotImplementedError("yours to write")


def exercise_2(w, gamma, beta, mean, var, eps):
    raise NotImplementedError("yours to write")


def judge_names():
    own = trained.state_dict()
    init.from_pretrained(random, exercise_1({f"cnn.{n.replace('linear', 'classifier')}": a for n, a in own.items()}))
    wrong = [name for name, array in random.state_dict().items() if not np.array_equal(array, own[name])]
    return f"all names fit, but {wrong[0]} holds another array." if wrong else ""


def judge_folding():
    w, x = trained.conv1.weight.value.astype(float), data.x_test[:8].astype(float)
    gamma, beta, mean, var = heads.uniform(0.5, 1.5, (4, 16))
    y, _ = batchnorm_forward(conv2d_forward(x, w, padding=1)[0], gamma, beta, eps=0.1, mean=mean, var=var)
    z, _ = conv2d_forward(x, *exercise_2(w, gamma, beta, mean, var, 0.1), padding=1)
    stretch, shift = z[:, 0].std() / y[:, 0].std(), z[:, 0].mean() - y[:, 0].mean()
    said = f"channel 0 varies {stretch:.3g} times as much as it should, and its mean is off by {shift:.2g}."
    return "" if np.allclose(z, y) else said


tutorial.exercise("10.1", judge_names)
tutorial.exercise("10.2", judge_folding)
# %% [markdown]
# After a try: `tutorial.solution("10.1")`. **What to change next:** longer training, or fewer images, as in
# `draw_comparison(compare_starts(weights, few, epochs=6, lr=0.05, batch_size=16), "Six epochs")`.
