"""The versions whose private names stand_in.py replaces; in others these may be called or work otherwise."""

WRITTEN_FOR = {"unsloth": "2026.10.9", "unsloth_zoo": "2026.10.9", "torch": "2.13.0", "triton": "3.7.1"}
