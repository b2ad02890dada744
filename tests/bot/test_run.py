"""What a closed connection means for whoever supervises the bot."""

from __future__ import annotations

from typing import Any

import discord
import pytest

from bot.run import _startup_error
from bot.settings import SettingsError, TransientError


def closed(code: int) -> Exception:
    socket: Any = None
    return discord.ConnectionClosed(socket, shard_id=0, code=code)


@pytest.mark.parametrize("code", [4004, 4010, 4011, 4012, 4013])
def test_a_connection_that_is_refused_for_good_is_not_tried_again(code: int) -> None:
    assert type(_startup_error(closed(code))) is SettingsError


@pytest.mark.parametrize("code", [1006, 4000])
def test_any_other_is(code: int) -> None:
    assert type(_startup_error(closed(code))) is TransientError
