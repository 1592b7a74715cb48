"""The training loop: batches in, weights out, and nothing lost on the way.

    history = fit(model, load_digits(), epochs=10, schedule=optim.Cosine(0.1, steps=...), folder="runs/digits")

One step is what every textbook says: forward, loss, backward, update. It stands alone, in `train_step`. Everything else
here stands around it. Loss and accuracy are summed on the device and fetched once a logged step. A loss that is no
longer finite stops the run and names the layer. A checkpoint is written after every epoch and when the run is
interrupted, and a resumed run ends with the very bits of one that was never stopped: batches come from (seed, epoch,
batch) alone (`data.batches`), and a checkpoint holds the rest, that is weights, momentum, sums, history and the state
of every generator that a layer owns (dropout).
"""

from minires.train.errors import SettingsDiffer, TrainingDiverged, TrainingInterrupted
from minires.train.evaluation import evaluate, first_nonfinite
from minires.train.fitting import fit
from minires.train.history import History, Progress
from minires.train.step import train_step
