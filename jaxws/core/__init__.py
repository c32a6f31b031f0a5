"""The library: locally connected layers and weight sharing, as pure functions.

It knows nothing of Flax, data or training. ``from jaxws import local_conv, share_weights, ...``
has what users need of it.
"""
