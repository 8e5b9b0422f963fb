"""An OpenAI-compatible chat service: asked for objects, with every reply kept on disk."""

from toolkit.service.client import CACHE, Answer, Service, Totals
from toolkit.service.keys import brief, check_address, read_key, scrub
from toolkit.service.replies import Messages, Reply, first_object, in_whole_characters, read_object

__all__ = [
    "CACHE",
    "Answer",
    "Messages",
    "Reply",
    "Service",
    "Totals",
    "brief",
    "check_address",
    "first_object",
    "in_whole_characters",
    "read_key",
    "read_object",
    "scrub",
]
