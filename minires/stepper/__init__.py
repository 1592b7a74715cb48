"""Pages that step through an operation on real numbers, forward and then back, one move at a time.

A page is one HTML file that needs no network and no server: `python -m minires step conv --open`. Beside the picture
of a move stands the source of the op, with the line that produced the numbers marked, and its variables. A lesson runs
its op under a recorder (`recorder.py`), which keeps what every line left behind, as a debugger sees it. A story
(`story.py`) tells these lines as moves; the page (`document.py`) shows numbers of the recording and no others.

    from minires import nn, stepper

    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    stepper.show(model, x[:2], labels[:2])            # in a notebook
    Path("mine.html").write_text(stepper.page(model, x[:2], labels[:2]))
"""

from minires.stepper.lessons import LESSONS
from minires.stepper.show import page, page_data, show
