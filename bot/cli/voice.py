"""Voice, which discord.py warns about and the bot does not use."""

from __future__ import annotations


def silence_voice_warnings() -> None:
    """Keep discord.py from warning that voice is not supported."""
    from discord import VoiceClient

    VoiceClient.warn_nacl = VoiceClient.warn_dave = False
