"""What an initializer does to a network's signal and gradient: foretold by laws, measured, and compared.

    predict(model, shape)      the laws of every layer, without running it: a SignalReport, with grades and allowances
    measure(model, shape)      the same table from the real passes of many networks
    compare(predicted, measured)     a verdict per row, and the first layer that departs
    forecast(model, shape)     the prediction in one phrase: "steady", "gradient dies by layer 3"
    outlook(kernel, rate, total)     what training will do, from `tangent_kernel(model, predicted)`: "will move"
    check_initializer(sampler, shape, law)     does anybody's sampler obey the law it claims, and which mistake is it

Where to begin: `report`, the table that all share; `laws/plain_networks` and `laws/batchnorm`, two families with their
derivations; `predict`, which walks a model, and `rules/affine`, what it asks of a layer. `laws` has one family a file,
`rules` ties them to the layers, `samplers` has single weight matrices, `stats` the tests behind every threshold.
"""

from minires.theory.compare import ComparisonReport, compare
from minires.theory.forecast import Forecast, forecast
from minires.theory.laws.tangent_kernel import TangentKernel, tangent_kernel
from minires.theory.measure import measure
from minires.theory.outlook import Outlook, learning_rates, outlook
from minires.theory.predict import predict
from minires.theory.report import Quantity, Row, SignalReport
from minires.theory.samplers.check import InitializerReport, check_initializer
