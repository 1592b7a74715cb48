"""How fast minires is, beside other engines on the same machine: what `minires bench` measures.

    cases      what is measured: a training step, inference, one layer
    engines    how each engine does it: minires, PyTorch, NumPy engines that are installed
    products   the step's matrix products alone: the time that nothing can fall below
    worker     a process of its own for each engine
    measure    turns taken by the workers, A B A B, and the numbers that come of it
    profiling  where the time of one step goes, layer by layer
    epoch      a whole epoch, and how well its time was foretold
    report     tables

Two engines in one process would share threads, caches and memory; two runs one after the other would meet the machine
in different moods. So each engine lives in its own process for as long as the run lasts, and they take turns: what
is compared are times taken side by side.
"""
