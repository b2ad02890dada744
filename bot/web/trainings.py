"""The trainings of a server with their curves and evaluations, and its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from bot.discord_ui.embeds.duel import result_text, votes_text
from bot.discord_ui.embeds.golden import good_text
from bot.discord_ui.embeds.model import format_megabytes
from bot.discord_ui.embeds.training.evaluation import LOSS_SET_LABELS, MODEL_LABELS
from bot.discord_ui.permissions import Rank
from bot.judgement.duel import standing_of
from bot.learning.growth import Checkpoint
from bot.web.access import Visitor
from bot.web.charts import curve_chart
from bot.web.site import NOT_HERE, PageRefused, answer, number_in, page_for, visit_of
from bot.web.timeline import training_title
from bot.web.words import Words
from core.records import Duel, TrainingJob
from data.judgement.golden import describe
from data.storage.tables.judgement.duels import Duels as DuelTable
from data.storage.tables.judgement.golden import GoldenTable
from i18n.phrase import join_phrases
from i18n.reader import say
from training.jobs.events import format_duration

MAX_TRAININGS, MAX_CHECKPOINTS, MAX_ANSWERS, MAX_DUELS = 25, 50, 20, 10


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """How a model last answered a golden question; `good` counts its good replies."""

    question: str
    expected: str
    good: str
    passed: bool


@dataclass(frozen=True, slots=True)
class LossRow:
    """The losses on one set of questions, by model; None where it was not measured."""

    label: str
    losses: Sequence[float | None]


async def trainings(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    site = visit_of(request).site
    jobs = (await site.storage.jobs.all(visitor.scope))[::-1]
    skipped = number_in(request, "after", 0)
    shown = jobs[skipped : skipped + MAX_TRAININGS]
    made = {one.name: one for one in await site.growth.checkpoints(visitor.scope)}
    return answer(
        request,
        "trainings.html",
        title=Words().trainings,
        visitor=visitor,
        section="/trainings",
        rows=[(job, made.get(job.checkpoint or "")) for job in shown],
        newer=max(0, skipped - MAX_TRAININGS) if skipped else None,
        older=skipped + MAX_TRAININGS if skipped + MAX_TRAININGS < len(jobs) else None,
    )


async def training(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    site, words = visit_of(request).site, Words()
    job = await site.storage.jobs.get(int(request.match_info["job"]))
    if job is None or job.scope != visitor.scope:
        raise PageRefused(404, NOT_HERE)
    made = await _checkpoint_of(request, job)
    names = await site.members.names(visitor.guild, [job.requested_by])
    report = made.report if made else None
    return answer(
        request,
        "training.html",
        title=training_title(job),
        visitor=visitor,
        section="/trainings",
        job=job,
        made=made,
        requested_by=names.get(job.requested_by, words.nobody),
        chart=curve_chart(await site.growth.curve(job, made), words.curve),
        models=[say(label) for label in MODEL_LABELS.values()],
        losses=_losses(report.losses) if report else [],
        report=report,
        golden=await _golden(site.storage.golden, job.scope, made.name) if made else [],
        answers=report.answers[:MAX_ANSWERS] if report else [],
        failures=report.failures[:MAX_ANSWERS] if report else [],
        duration=say(format_duration(made.manifest.seconds)) if made else "",
        live=not job.state.is_final,
    )


async def _checkpoint_of(request: web.Request, job: TrainingJob) -> Checkpoint | None:
    if job.checkpoint is None:
        return None
    found = await visit_of(request).site.growth.checkpoints(job.scope)
    return next((one for one in found if one.name == job.checkpoint), None)


async def _golden(table: GoldenTable, scope: int, model: str) -> list[GoldenRow]:
    """The golden questions that the model was asked."""
    scores = await table.scores(scope, model)
    return [
        GoldenRow(
            one.question,
            say("should {expected}", expected=describe(one)),
            say(good_text(scores[one.id])),
            scores[one.id].passed,
        )
        for one in await table.all(scope)
        if one.id in scores
    ]


def _losses(losses: Mapping[str, Mapping[str, float | None]]) -> list[LossRow]:
    return [
        LossRow(say(label), [losses[kind].get(model) for model in MODEL_LABELS])
        for kind, label in LOSS_SET_LABELS.items()
        if any(loss is not None for loss in losses.get(kind, {}).values())
    ]


async def checkpoints(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    site = visit_of(request).site
    found = await site.growth.checkpoints(visitor.scope)
    trial = site.models.trial(visitor.scope)
    jobs = await site.storage.jobs.with_checkpoint(visitor.scope)
    return answer(
        request,
        "checkpoints.html",
        title=Words().checkpoints,
        visitor=visitor,
        section="/checkpoints",
        rows=[(one, _lineage(one), format_megabytes(one.size)) for one in found[:MAX_CHECKPOINTS]],
        job_of={job.checkpoint: job.id for job in jobs},
        golden=await site.storage.golden.tallies(visitor.scope),
        serving=(await site.models.active(visitor.scope)).name,
        trial=trial.name if trial else None,
        duels=await _duels(site.storage.duels, visitor.scope),
    )


async def _duels(table: DuelTable, scope: int) -> list[tuple[Duel, str, str]]:
    """The newest duels, each with its result and its votes."""
    return [
        (one, result_text(one), votes_text(standing_of(one, await table.votes(one))))
        for one in await table.newest(scope, MAX_DUELS)
    ]


def _lineage(one: Checkpoint) -> str:
    """What it was made from, back to the base: `tiny-2 ← tiny-1 ← tiny`."""
    manifest = one.manifest
    root = manifest.base_name
    steps = [*manifest.parents, *([root] if root and root not in manifest.parents else [])]
    return say(join_phrases(steps, " ← ")) if steps else Words().not_known


def routes() -> list[web.RouteDef]:
    server = r"/s/{guild:\d{1,20}}"
    return [
        web.get(f"{server}/trainings", page_for(Rank.MANAGER, trainings)),
        web.get(rf"{server}/trainings/{{job:\d{{1,18}}}}", page_for(Rank.MANAGER, training)),
        web.get(f"{server}/checkpoints", page_for(Rank.MANAGER, checkpoints)),
    ]
