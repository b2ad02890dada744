"""Signing in with Discord: OAuth2's authorization code grant, as Discord documents it
(https://discord.com/developers/docs/topics/oauth2).

Knows Discord's addresses. Does not know sessions: whoever calls binds `state` to the browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp

DISCORD = "https://discord.com"
CALLBACK_PATH = "/oauth/callback"
SCOPES = "identify guilds"
TIMEOUT_S = 10.0


class SignInFailed(Exception):
    """Discord did not say who it is; the message is for the log."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who signed in, in which of their servers, and the locale of their Discord."""

    user_id: int
    guild_ids: frozenset[int]
    locale: str


@dataclass(frozen=True, slots=True)
class DiscordSignIn:
    """`address` is where people find the page, `discord` where Discord is: for tests, elsewhere."""

    client_secret: str
    address: str
    discord: str

    def authorize_url(self, client_id: int, state: str) -> str:
        """Where the browser is sent, to come back to CALLBACK_PATH with a code."""
        query = {
            "response_type": "code",
            "client_id": client_id,
            "scope": SCOPES,
            "redirect_uri": self.address + CALLBACK_PATH,
            "state": state,
            "prompt": "none",
        }
        return f"{self.discord}/oauth2/authorize?{urlencode(query)}"

    async def account(self, client_id: int, code: str) -> Account:
        """Whose code it is. The access token that it is exchanged for is given back at once.

        Raises:
            SignInFailed: Discord refuses the code, or cannot be reached.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.address + CALLBACK_PATH,
        }
        ours = {"client_id": str(client_id), "client_secret": self.client_secret}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                token = await self._post(session, "oauth2/token", form | ours)
                access = str(token["access_token"])
                user = await self._get(session, "users/@me", access)
                guilds = await self._get(session, "users/@me/guilds", access)
                await self._post(session, "oauth2/token/revoke", {"token": access} | ours)
            ids = frozenset(int(one["id"]) for one in guilds)
            return Account(int(user["id"]), ids, str(user.get("locale", "")))
        except (aiohttp.ClientError, TimeoutError) as e:
            raise SignInFailed(f"{type(e).__name__}: {e}") from e
        except (KeyError, TypeError, ValueError) as e:
            raise SignInFailed(f"Discord's answer cannot be read: {e}") from e

    async def _post(
        self, session: aiohttp.ClientSession, path: str, form: Mapping[str, str]
    ) -> Any:
        async with session.post(self._api(path), data=form) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def _get(self, session: aiohttp.ClientSession, path: str, access: str) -> Any:
        headers = {"Authorization": f"Bearer {access}"}
        async with session.get(self._api(path), headers=headers) as answer:
            answer.raise_for_status()
            return await answer.json()

    def _api(self, path: str) -> str:
        return f"{self.discord}/api/v10/{path}"


def sign_in_with_discord(address: str | None, secret: str) -> DiscordSignIn | None:
    """It needs a public address, which Discord sends browsers back to, and the application's
    secret."""
    if not address or not address.startswith("https://") or not secret:
        return None
    return DiscordSignIn(secret, address, DISCORD)
