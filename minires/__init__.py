"""minires: a deep-learning engine small enough to read in one evening.

Hand-written forward and backward passes on plain arrays (`ops`), layers and residual networks made of them (`nn`),
initializers that know their own laws (`init`, `theory`), and gradient checks that say what is wrong (`gradcheck`).
`import minires` loads NumPy and nothing heavier.
"""

__version__ = "0.1.0"
