"""Several processes, on one machine or on many, that share each batch: the group of `minires.threads`, over MPI."""

from minires.parallel.group import MPIGroup
