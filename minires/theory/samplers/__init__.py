"""Samplers of single weight matrices: what their numbers must look like, and which mistake was made if they do not.

weights    the laws of a finite sample: mean, variance, kurtosis, bound, orthogonality
check      `check_initializer`: anybody's sampler against the law it claims
mistakes   the usual slips, the variance that each gives every shape, and the sentence that names it
"""
