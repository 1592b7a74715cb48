"""Several processes, on one machine or on many, by MPI.

    group           the group of `minires.threads`, of processes: ranks that share each batch
    data_parallel   a model that all ranks train together; `batchnorm` and `gradients` are its parts
    sweep           many small runs on all ranks: `compare` and `course grade` under mpiexec
    network         the line between two ranks, measured by ping-pong
    cost            what a step on P ranks will take: the formulas, and where they come from
    simulation      the same step message by message
    in_one_process  ranks that are threads, to step through
    report          tables and sentences of it

Importing this loads no MPI: that happens where a group or a sweep is made.
"""

from minires.parallel.batchnorm import SyncBatchNorm2d, synchronize_batchnorm
from minires.parallel.data_parallel import DataParallel
from minires.parallel.group import MPIGroup
