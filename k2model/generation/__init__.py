"""A model at work: texts written token by token, and how likely a text is. Loads torch when a name is first used.

`engine` writes and `reading` scores, both over `decoder`, the forward pass of tokens of many requests at once, whose
keys and values lie in `slots`. `writing` is one request's way to its end, `choice` how its tokens are drawn.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "Decoder": "decoder",
        "Engine": "engine",
        "Request": "writing",
        "Score": "reading",
        "Written": "writing",
    },
)
