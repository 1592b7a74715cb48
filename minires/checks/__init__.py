"""The checks at the door: bad input gets a sentence that names the argument, what it was and what was expected.

They raise TypeError for the wrong kind of thing (a list, integers, two dtypes) and ValueError for a size or value that
does not fit, always before anything is computed or changed.

operations   what an operation is called with: arrays, their shapes and dtypes, sizes, caches
settings     flags, choices, seeds, dtypes, names of initializers
networks     what layers and networks are made of, and the shapes that they take
states       dictionaries of arrays by name
optimizers   parameters and schedules
wording      how a sentence shows what was given
"""

from minires.checks.operations import (
    cache_of,
    check_arrays,
    check_axes,
    check_batchnorm,
    check_channels,
    check_classes,
    check_elementwise,
    check_groups,
    check_half,
    check_labels,
    check_loss_upstream,
    check_normalized_shape,
    check_number,
    check_same_padding,
    check_shape,
    check_upstream,
    pair,
    whole,
    whole_shape,
)
from minires.checks.settings import Rng, check_dtype, check_scale, check_whole, choice, flag, generator, named
from minires.checks.networks import (
    PLAIN,
    blocks_of,
    check_batch,
    check_batch_shape,
    check_blocks,
    check_input_shape,
    check_model,
    check_observer,
    check_sum,
    entries_of,
    factory,
    image_size,
    layer_name,
    layer_padding,
    raise_with_path,
)
from minires.checks.states import check_state, convert_state, match_state, no_name_twice
from minires.checks.optimizers import check_parameters, check_schedule, distinct_names
