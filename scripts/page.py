"""What a visitor does on the demo's page: writes, runs commands, presses buttons, fills in forms.

Knows SimCord's page by what is on it. Does not know what the bot says, or in which language.
"""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Locator, Page, Request, TimeoutError

from bot.discord_ui.views.reply_buttons import BUTTON_EMOJI

PAGE_TIMEOUT_S = 60.0
"""Seconds for all but a training: the first command may wait for the model."""
TRAINING_TIMEOUT_S = 300.0
"""Seconds for a training of `tiny`, on a machine that has other things to do."""
ACTION = "/api/action"
"""Where the page tells what was done on it."""
REQUEST_TIMEOUT_S, TRIES = 10.0, 3
"""Seconds after which it would have told, and how often a thing is done that it does not tell."""
FAILED_ACTION_PREFIXES = ("Action was not", "Action outcome uncertain", "Action is awaiting")
"""How the page's words about an action begin when it did not go through."""

MAIN_BUTTON = ".button-style-1"
"""The button that a message suggests, as Start under the plan of a training."""
PLOT = "img.attachment-image[src^=blob]"
"""A picture that a message has, once the page has loaded it."""


class ActionRefusedError(Exception):
    """The page did not take an action; the message is what it says of that."""


class DemoPage:
    """SimCord's page in a browser, and the channel on it.

    Each action waits for the last one, and returns when the page has taken it: the page lets go
    what is done while it is busy.
    """

    def __init__(self, page: Page, url: str) -> None:
        page.set_default_timeout(1000 * PAGE_TIMEOUT_S)
        page.goto(url)
        self.page = page
        self.channel = page.locator("#channel-layout")
        self.messages = page.locator("article.channel-message")
        self._timeline = page.locator("#channel-timeline")
        self._composer = page.locator("#channel-composer-input")
        self._send = page.locator("#send-message")
        self._form = page.locator("#modal-root")
        self._wait_until_ready()

    def send_message(self, text: str) -> Locator:
        """Write a message; the reply to it, once it is whole and has its buttons."""
        quote = self.page.locator(".reply-excerpt").get_by_text(text, exact=True)
        again = self.page.get_by_role("button", name=BUTTON_EMOJI["again"])
        reply = _next(self.messages.filter(has=quote).filter(has=again))
        self._wait_until_ready()
        self._composer.fill(text)
        self._act("send_message", lambda: self._composer.press("Enter"))
        reply.wait_for()
        return reply

    def run_command(self, command: str, **options: str) -> Locator:
        """Run a slash command with these options; what the bot answers."""
        name = f"/{command.split()[0]}"  # all that the page tells above the answer
        head = self.page.locator(".message-interaction-header strong").get_by_text(name, exact=True)
        answer = _next(self.messages.filter(has=head))
        self._wait_until_ready()
        self._composer.fill(f"/{command}")
        listed = self.page.locator(".command-entry.is-active strong")
        listed.get_by_text(f"/{command}", exact=True).wait_for()
        self._composer.press("Enter")
        for option, value in options.items():
            self.page.locator(f'input[data-option="{option}"]').fill(value)
        self._act("run_command", self._send.click)
        answer.wait_for()
        return answer

    def press(self, button: Locator) -> None:
        """Press a button of a message."""
        self._wait_until_ready()
        self._act("click", button.click)
        self.page.mouse.move(0, 0)  # what the pointer rests on looks different

    def fill_form(self, **fields: str) -> None:
        """Fill in the form that has opened, by the ids of its fields, and send it."""
        for name, value in fields.items():
            self._form.locator(f'[name="{name}"]').fill(value)
        self._act("modal_submit", self._form.locator("button[type=submit]").click)
        self._form.wait_for(state="hidden")

    def start_training(self, plan: Locator) -> Locator:
        """Press Start under the answer to `/retrain`; the message that tells of the training's end.

        It has the loss curve, and is not there yet: wait for it as long as `TRAINING_TIMEOUT_S`.
        """
        end = _next(self.messages.filter(has=self.page.locator(PLOT)))
        self.press(plan.locator(MAIN_BUTTON))
        return end

    def scroll_to_newest(self) -> None:
        """Scroll down to the newest message; the page follows it from there."""
        self._timeline.evaluate("one => one.scrollTop = one.scrollHeight")

    def _wait_until_ready(self) -> None:
        """Wait until the page takes an action."""
        self.page.locator("#send-message:enabled").wait_for()

    def _act(self, kind: str, do: Callable[[], None]) -> None:
        """Do it, and again if the page did not hear of it, because it was just drawn anew."""

        def is_it(request: Request) -> bool:
            return request.url.endswith(ACTION) and f'"{kind}"' in (request.post_data or "")

        for _ in range(TRIES):
            try:
                with self.page.expect_request(is_it, timeout=1000 * REQUEST_TIMEOUT_S):
                    do()
            except TimeoutError:
                continue
            self._check_accepted()
            return
        raise ActionRefusedError(f"The page does not take the action “{kind}”.")

    def _check_accepted(self) -> None:
        self._wait_until_ready()
        status = self.page.locator("#action-status").inner_text()
        if status.startswith(FAILED_ACTION_PREFIXES):
            raise ActionRefusedError(status)


def message_text(message: Locator) -> str:
    """What a message says, without embeds and buttons."""
    return message.locator(".message-content").inner_text()


def reply_button(message: Locator, action: str) -> Locator:
    """The button under a reply that does that, by the name that
    `bot.discord_ui.views.reply_buttons` gives it."""
    return message.get_by_role("button", name=BUTTON_EMOJI[action])


def _next(kind: Locator) -> Locator:
    """The first message of a kind that is not there yet."""
    return kind.nth(kind.count())
