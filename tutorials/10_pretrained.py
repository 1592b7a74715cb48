# %% [markdown]
# # Pretrained weights: the initialization that knows something, and what exactly it knows
#
# Somebody trained a ResNet-20 on CIFAR-10 and published its 269,722 numbers. In the same network they are an
# initializer like any other, except that they know something. What do they know, and in which layers?
#
# The page uses real images and those weights where they are: `cifar10` and `pretrained/resnet20-cifar10.safetensors`
# in the folder of the data (MINIRES_DATA; `python -m minires data` lists it). Elsewhere it falls back to the digits:
# a network trained here on 1,200 of them stands in for the published one, and 242 others are the images to learn.
# Three times you are asked to **predict first**: write your answer down, then run the cell. Takes about 15 s.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import init, nn, optim
from minires.checkpoint import CheckpointError, read_weights
from minires.data import DataError, Split, count_batches, data_root, load, load_digits
from minires.plot.curves import draw_comparison
from minires.plot.style import COLORS, caption, new_figure
from minires.train import evaluate, fit
from minires.transfer import compare_starts, parts, start_from


def real_images():
    weights = read_weights(data_root() / "pretrained" / "resnet20-cifar10.safetensors")
    x, y, x_test, y_test = load("cifar10")
    return weights, Split(x[:448], y[:448], x_test[:256], y_test[:256])


def digits_instead():
    x, y, x_test, y_test = load_digits()
    model, many, few = nn.resnet(14, in_channels=1, rng=1), slice(0, 1200), slice(1200, None)
    known = Split(x[many], y[many], x_test, y_test)
    fit(model, known, epochs=8, batch_size=32, schedule=optim.Cosine(0.1, 8 * 38))
    return model.state_dict(), Split(x[few], y[few], x_test, y_test)


try:
    (weights, data), source = real_images(), "real images (CIFAR-10)"
except (CheckpointError, DataError) as error:
    (weights, data), source = digits_instead(), "digits"
    print(f"no CIFAR-10 or no published weights here, so this is about the digits ({error})")
print(f"{source}: {len(data.x_train)} images to learn, {len(data.x_test)} to test on")

# %% [markdown]
# ## Everything but the head
# The head (`linear`) turns features into answers; everything before it, the body, turns images into features.
#
# **Predict first (1).** Take over all arrays of the body and draw the head anew: of all the network's numbers, how
# many are still as they were trained? And which accuracy does that leave, on ten classes?
# %%
body = [name for name, _ in start_from(weights, ()).children() if name != "linear"]
model = start_from(weights, body)
trained = sum(weights[name].size for name in weights if name.split(".")[0] in body)
loss, accuracy = evaluate(model, data.x_test, data.y_test)
print(f"{trained / sum(a.size for a in weights.values()):.1%} of the numbers are trained; accuracy {accuracy:.1%}")
assert trained > 0.95 * sum(a.size for a in weights.values()) and accuracy < 0.5, "features without names"

# %% [markdown]
# ## Against He's law
# The same network and head, the same batches in the same order, three starts: He's law; the trained body; and the
# trained body, frozen, where only the head learns (its BatchNorms keep their statistics, too).
#
# **Predict first (2).** Which of the three is ahead after the first epoch, and is it still ahead after the last?
# %%
runs = compare_starts(weights, data, epochs=2, lr=0.05, batch_size=16, frozen=True)
for name, history in runs.items():
    print(f"{name:20} " + "  ".join(f"{a:.1%}" for a in history.column("test_accuracy")))
he, tuned, frozen = (np.array(history.column("test_accuracy")) for history in runs.values())
assert (tuned > he).all() and frozen[0] > he[0], "knowledge beats the right variance, from the first epoch on"
draw_comparison(runs, f"What a trained start is worth on {source}")
plt.show()

# %% [markdown]
# ## Layer by layer
# Now hand over only a beginning of the network, stem, stem and first stage, and so on; the rest follows He's law.
#
# **Predict first (3).** A stem alone, or all but the head: which gains more over He after one epoch? Where in the
# network are most of its numbers?
# %%
stages = parts(model)[:-1]
sizes = [sum(p.value.size for p in model.parameters() if p.name.startswith(tuple(s.split("+")))) for s in stages]
cosine = optim.Cosine(0.05, count_batches(len(data.x_train), 16))
found = {}
for count in range(len(stages) + 1):
    taken = [name for part in stages[:count] for name in part.split("+")]
    student = start_from(weights, taken)
    history = fit(student, data, epochs=1, batch_size=16, schedule=cosine)
    found["none" if count == 0 else f"to {stages[count - 1]}"] = history.epochs[-1]["test_accuracy"]
print({name: f"{accuracy:.1%}" for name, accuracy in found.items()})
gains = list(found.values())
assert gains[-1] - gains[0] > gains[1] - gains[0], "what counts for an answer is put together late"
assert np.argmax(sizes) == len(sizes) - 1, f"numbers in {stages}: {sizes}: most of them are in the last stage"

fig, axes = new_figure(1, 1, size=(8, 4.2), title="What is handed over, layer by layer")
axes[0, 0].bar(list(found), [100 * accuracy for accuracy in gains], color=COLORS[0], width=0.6)
caption(axes[0, 0], f"{source}, one epoch", x="trained layers, from the input on", y="test accuracy (%)")
plt.show()

# %% [markdown]
# ## Exercises: write the two functions below and run the cell; the engine is the judge
# 1. **Names.** Another author calls the same arrays `net.conv1.weight`, ..., and the head `net.classifier.weight`.
#    Return the dictionary under minires' names. (`init.from_pretrained` is strict: it says what does not fit.)
# 2. **Folding.** In evaluation mode BatchNorm is a linear map with constants: find w2 and b2 such that one convolution
#    does what convolution and BatchNorm did: y = gain * (conv(x, w) - mean) / sqrt(var + eps) + offset.


# %%
def exercise_1(foreign):
    raise NotImplementedError("yours to write")


def exercise_2(w, gain, offset, mean, var, eps):
    raise NotImplementedError("yours to write")


def judge_names():
    own = model.state_dict()
    foreign = {f"net.{name.replace('linear', 'classifier')}": array for name, array in own.items()}
    print("exercise 1:", init.from_pretrained(model, exercise_1(foreign)))


def judge_folding():
    conv, norm, x = model.conv1, model.bn1.eval(), data.x_test[:8]
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
    statistics = (norm.weight.value, norm.bias.value, norm.running_mean, norm.running_var, norm.eps)
    folded.weight.value, folded.bias.value = exercise_2(conv.weight.value, *statistics)
    error = np.abs(folded.forward(x) - norm.forward(conv.forward(x))).max()
    print(f"exercise 2: largest difference {error:.1e}:", "right" if error < 1e-4 else "not yet")


for judge in (judge_names, judge_folding):
    try:
        judge()
    except (NotImplementedError, ValueError) as error:
        print(f"{judge.__name__}: {error}")
