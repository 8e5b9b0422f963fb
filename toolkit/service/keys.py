"""Addresses and keys of services: where a key may be sent, and that it is written nowhere."""

import json
import os
import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from toolkit.errors import UserError

SECRET_LENGTH = 8
"""A shorter key is a word that a local server wants to see ("EMPTY"): crossing it out would cross out prose."""


def check_address(base_url: str) -> None:
    """Raises UserError for what is no http address, and for one that holds more, which may be a secret."""
    try:
        parts = urlsplit(base_url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UserError("base_url is no address; one is http://localhost:8000/v1.") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not repeated here, as it would stand in logs.
        raise UserError("base_url holds more than an address. A key belongs in an environment variable (key_env).")
    if parts.scheme not in ("http", "https") or not named:
        raise UserError(f'base_url = "{base_url}" is no address; one is http://localhost:8000/v1.')


def read_key(variable: str, base_url: str) -> str | None:
    """The key for a service; None where this machine serves it and there is none. Raises UserError without the key."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        # It may be the key itself, put in the wrong place.
        raise UserError("key_env is the name of the environment variable that holds the key, such as OPENAI_API_KEY.")
    key = os.environ.get(variable, "").strip()
    if not key and is_local(base_url):
        return None
    if not key:
        raise UserError(f"{base_url} needs a key: put it into the environment variable {variable}.")
    if not re.fullmatch(r"[!-~]+", key):
        raise UserError(f"the key in the environment variable {variable} holds a sign that no key has.")
    return key


def is_local(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def scrub(text: str, key: str | None) -> str:
    """A text without the key, whatever the service repeats of it."""
    if key is None or len(key) < SECRET_LENGTH:
        return text
    return text.replace(key, "[key]").replace(json.dumps(key)[1:-1], "[key]")


def brief(said: Any, key: str | None) -> str:
    """What a service says of an error, in a line and without the key."""
    if isinstance(said, dict):
        said = said.get("message") or said.get("detail") or said
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    # Cut last, as half a key would not be found.
    return " ".join(scrub(text, key).split())[:300].rstrip(".")
