"""The words of the page, by the names that templates have for them: `w.sign_out`."""

from __future__ import annotations

from core.records import JobState
from i18n.phrase import phrase
from i18n.reader import say

WORDS = {
    # every page
    "title": phrase("How I grow"),
    "skip": phrase("Skip to the content"),
    "pages": phrase("Pages"),
    "servers": phrase("Your servers"),
    "sign_out": phrase("Sign out"),
    "sign_in": phrase("Sign in"),
    "language": phrase("Language"),
    "utc": phrase("Times are in UTC where your browser does not say otherwise."),
    "newer": phrase("Newer"),
    "older": phrase("Older"),
    "numbers": phrase("The numbers"),
    "not_known": phrase("not known"),
    "step": phrase("step"),
    "loss": phrase("loss"),
    "day": phrase("Day"),
    "nobody": phrase("somebody who was forgotten"),
    # signing in
    "welcome": phrase("See what I was taught, and what I made of it."),
    "how_to": phrase(
        "Managers of a server: use the command `/growth` there. Only you see the link that I "
        "answer with; it works once, within ten minutes."
    ),
    "with_discord": phrase("Sign in with Discord"),
    "all_members": phrase("Everybody else can sign in with Discord, and sees what they taught."),
    "is_it_you": phrase("Is that you?"),
    "continue": phrase("Yes, sign me in"),
    "no_server": phrase("I am in no server that you are in."),
    "choose_server": phrase("Choose a server"),
    # timeline
    "timeline": phrase("Timeline"),
    "examples": phrase("Examples"),
    "waiting": phrase("Waiting for review"),
    "trainings": phrase("Trainings"),
    "answering": phrase("Answers now"),
    "what_was_taught": phrase("What was taught"),
    "your_lessons": phrase("What you taught me"),
    "only_yours": phrase(
        "You see what you taught me in this server. Managers see what all of you taught, and my "
        "trainings."
    ),
    "nothing_taught": phrase("Nothing was taught yet: begin with `/teach` in Discord."),
    "question": phrase("People say"),
    "answer": phrase("I answer"),
    "others_words": phrase("(somebody else’s words)"),
    "more_lessons": phrase("More lessons of that day, which are not shown here:"),
    "all_of_these": phrase("See all in the data set"),
    # trainings and checkpoints
    "no_trainings": phrase("There was no training yet: `/retrain` in Discord starts one."),
    "training_list": phrase("All trainings, the newest first"),
    "checkpoints": phrase("Checkpoints"),
    "checkpoint_list": phrase("The models that my trainings made, the newest first"),
    "no_checkpoints": phrase("There is no checkpoint: a training that ends makes one."),
    "state": phrase("State"),
    "started_at": phrase("Asked for"),
    "started_by": phrase("Asked for by"),
    "base": phrase("Base"),
    "made_from": phrase("Made from"),
    "made_at": phrase("Made"),
    "model": phrase("Model"),
    "learned": phrase("Learned"),
    "loss_taught": phrase("Loss on what was taught"),
    "loss_general": phrase("Loss on general talk"),
    "checks": phrase("Checks"),
    "passed": phrase("passed"),
    "golden": phrase("Golden questions"),
    "replies": phrase("Replies"),
    "not_passed": phrase("did not pass"),
    "size": phrase("Size"),
    "serves": phrase("answers now"),
    "on_trial": phrase("on trial"),
    "duel_list": phrase("Duels, the newest first"),
    "models": phrase("Models"),
    "began_at": phrase("Began"),
    "votes": phrase("Votes"),
    "result": phrase("Result"),
    "curve": phrase("Loss, step by step"),
    "no_curve": phrase("There is no curve: the training took no step, or its files are gone."),
    "live": phrase("This page follows the training by itself."),
    "evaluation": phrase("Evaluation"),
    "no_evaluation": phrase("There is no evaluation: the training has not come that far."),
    "measured_on": phrase("Measured on"),
    "losses": phrase("Loss (lower is better)"),
    "before_after": phrase("Before and after"),
    "before": phrase("Before"),
    "after": phrase("After"),
    "wrong_answers": phrase("Answers that were wrong"),
    "what_is_wrong": phrase("What is wrong"),
    "said_nothing": phrase("(nothing)"),
    "time_taken": phrase("Time taken"),
    "device": phrase("Device"),
    "details": phrase("Details"),
    # the data set
    "data_set": phrase("Data set"),
    "search": phrase("Search"),
    "search_label": phrase("Part of a question or an answer"),
    "status": phrase("Status"),
    "any_status": phrase("any"),
    "taught_by": phrase("Taught by"),
    "source": phrase("Source"),
    "taught_at": phrase("Taught on"),
    "review": phrase("Review"),
    "approve": phrase("Approve"),
    "reject": phrase("Reject"),
    "number": phrase("Number"),
    "nothing_found": phrase("Nothing was found. Use fewer words, or choose another status."),
    "nothing_yet": phrase("Nothing was found up to here; there is more to look through."),
    "search_on": phrase("Search on"),
    "of_one_author": phrase("Only what one member taught is shown."),
    "show_all": phrase("Show everything"),
    # health
    "health": phrase("Health"),
    "part": phrase("Part"),
    "how_it_is": phrase("How it is"),
    "all_well": phrase("All is well."),
    "not_well": phrase("Something is wrong."),
    "worker_models": phrase("Loaded models"),
    "servers_count": phrase("Servers"),
    "queue": phrase("Messages being answered or waiting"),
    "open_jobs": phrase("Unfinished trainings"),
    "disk": phrase("Checkpoints on the disk"),
    "version": phrase("Version"),
    "gateway": phrase("gateway"),
    "database": phrase("database"),
    "worker": phrase("worker"),
    "ok": phrase("ok"),
}
STATE_LABELS = {
    JobState.QUEUED: phrase("waiting for its turn"),
    JobState.RUNNING: phrase("running"),
    JobState.PAUSED: phrase("paused"),
    JobState.PROMOTED: phrase("learned"),
    JobState.REJECTED: phrase("not used"),
    JobState.FAILED: phrase("failed"),
    JobState.CANCELLED: phrase("cancelled"),
    JobState.INTERRUPTED: phrase("interrupted"),
}
LANGUAGE_NAMES = {"en": "English", "ja": "日本語"}


class Words:
    """The words in the reader's language, as attributes; an unknown name is an error."""

    def __getattr__(self, name: str) -> str:
        try:
            return say(WORDS[name])
        except KeyError as e:
            raise AttributeError(name) from e
