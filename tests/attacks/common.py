"""What the attacks share: a child process with limits, and tables."""

import contextlib
import json
import os
import resource
import signal
import sys
import traceback

from tests.slowness import PATIENCE


def in_child(action, seconds=PATIENCE, extra_memory=None):
    """What `action()` returns (JSON), computed in a forked child; a dict with "died" where the child did not end well.

    extra_memory: bytes that the child may map beyond what this process has.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            signal.alarm(seconds)
            if extra_memory is not None:
                with open("/proc/self/statm") as file:
                    mapped = int(file.read().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (mapped + extra_memory, resource.RLIM_INFINITY))
            answer = action()
        except BaseException:
            answer = {"died": traceback.format_exc()[-2000:]}
        with contextlib.suppress(BaseException), os.fdopen(theirs, "w") as pipe:
            pipe.write(json.dumps(answer))
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if not text:
        code = os.waitstatus_to_exitcode(status)
        return {"died": f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"}
    return json.loads(text)


def table(title, counts):
    """A Markdown table of {row: {column: number}}."""
    columns = list(dict.fromkeys(column for row in counts.values() for column in row))
    lines = [f"| {title} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    lines += [f"| {name} | {' | '.join(str(row.get(c, 0)) for c in columns)} |" for name, row in counts.items()]
    total = {column: sum(row.get(column, 0) for row in counts.values()) for column in columns}
    return "\n".join([*lines, f"| all | {' | '.join(str(total[c]) for c in columns)} |"])


@contextlib.contextmanager
def silenced():
    """File descriptors 1 and 2 go nowhere: what attacked code prints is not of interest."""
    sys.stdout.flush()
    saved = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        for number, handle in enumerate(saved, 1):
            os.dup2(handle, number)
            os.close(handle)
        os.close(nowhere)
