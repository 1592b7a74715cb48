"""The assignments that come with minires, one a file, in the order of `minires.course.declaration.ORDER`."""
