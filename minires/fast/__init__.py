"""The fast way to run a model: the arithmetic of `ops` and `nn` at the speed of the machine."""
