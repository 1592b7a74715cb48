"""One layer after the other."""

from minires.backend import Array
from minires.checks import layer_name
from minires.nn.layer import Layer


class Sequential(Layer):
    """One layer after the other. Its children are named "0", "1", ..."""

    def __init__(self, *layers: Layer) -> None:
        for i, layer in enumerate(layers):
            self.add(str(i), layer)

    def add(self, name: str, layer: Layer) -> None:
        """Appends a layer under a new name. Raises TypeError unless it is a Layer, ValueError for a name in use."""
        if not isinstance(layer, Layer):
            raise TypeError(f"layer {name} is {layer!r}; expected a Layer, as in Sequential(Linear(64, 10), ReLU())")
        if hasattr(self, layer_name(name)):
            raise ValueError(f"name is {name!r}; expected one that {type(self).__name__} does not use yet")
        setattr(self, name, layer)

    @property
    def layers(self) -> list[Layer]:
        """The layers in the order of the forward pass."""
        return [layer for _, layer in self.children()]

    def _forward(self, x: Array) -> tuple[Array, None]:
        for layer in self.layers:
            x = layer.forward(x)
        return x, None

    def _backward(self, dy: Array, cache: None) -> Array:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self.layers)} layers"
