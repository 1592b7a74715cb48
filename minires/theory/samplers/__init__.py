"""Samplers of single weight matrices: what their numbers must look like, and which mistake was made if they do not.

weights      the laws of a finite sample: mean, variance, kurtosis, bound, orthogonality
check        `check_initializer`: anybody's sampler against the law it claims
orthogonal   samplers of orthogonal matrices
mistakes     the usual slips as a table: a sentence, and the variance that it gives every shape
"""
