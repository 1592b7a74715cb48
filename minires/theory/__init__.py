"""The laws: what an initializer does to a network's signal and gradient, foretold, measured, and compared.

    predict(model, shape)            walk a model without running it: a SignalReport, every number with grade and spread
    measure(model, shape, seeds=R)   the same table from the real passes of R networks
    compare(predicted, measured)     a verdict per row, and the first layer that departs
    check_initializer(sampler, shape, law)     does anybody's sampler obey the law it claims, and which mistake is it

    forecast(model, shape)           the prediction in one phrase: "steady", "gradient dies by layer 3"
    outlook(kernel, rate, total)     what training will do, from `tangent_kernel(model, predicted)`: "will move"

These stand at the front desk, one file each; `report` is the table that they share, `stats` the tests behind every
threshold, `summary` the prediction in a sentence and block by block. Behind it: `laws`, one family a file with its
derivation on top; `rules`, which tie the laws to the layers of minires; `samplers`, for single weight matrices.
"""

from minires.theory.compare import ComparisonReport, compare
from minires.theory.forecast import Forecast, forecast
from minires.theory.laws.tangent_kernel import TangentKernel, tangent_kernel
from minires.theory.measure import measure
from minires.theory.outlook import Outlook, learning_rates, outlook
from minires.theory.predict import predict
from minires.theory.report import Quantity, Row, SignalReport
from minires.theory.samplers.check import InitializerReport, check_initializer

__all__ = [
    "ComparisonReport",
    "Forecast",
    "InitializerReport",
    "Outlook",
    "Quantity",
    "Row",
    "SignalReport",
    "TangentKernel",
    "check_initializer",
    "compare",
    "forecast",
    "learning_rates",
    "measure",
    "outlook",
    "predict",
    "tangent_kernel",
]
