"""The laws of what an initializer does to a signal, tested against the real passes."""
