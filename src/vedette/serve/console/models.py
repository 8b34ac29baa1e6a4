"""Models: what scores payments here, how well it did when it was trained, and how it does now."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from vedette.core.clock import DAY
from vedette.core.decision import Action
from vedette.judge.decisions.register import Minute, Row, quantile
from vedette.judge.versions import Kind
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, look

RECENT = 5_000
"""Newest decisions that the model's health is read from."""
BAND = 10
"""Width of a bar of the score histogram, in risk scores."""

router = APIRouter(tags=["console"], include_in_schema=False)


@router.get("/models")
def show_model(request: Request, visitor: Annotated[Visitor, look("models", "read")], platform: Served) -> HTMLResponse:
    """The model in service: its card, its health on the newest decisions, its versions."""
    scoring = platform.desk.scoring
    model = scoring.model
    recent = platform.register.find(visitor.tenant, limit=RECENT)
    span = platform.register.span(visitor.tenant)
    end = span[1] if span else platform.clock.now()
    minutes = platform.register.minutes(visitor.tenant, end - DAY, end + 1)
    return show(
        request,
        visitor,
        "models.html",
        model=model,
        card=dict(model.card) if model else {},
        policy=str(scoring.policy),
        history=platform.versions.history(Kind.MODEL, model.source) if model else [],
        recent=len(recent),
        health=_health(recent, minutes),
        bands=_bands(recent),
        reasons=_reasons(recent),
    )


def _health(recent: list[Row], minutes: list[Minute]) -> dict[str, Any]:
    """How the newest decisions went: shares of 0..1, latency in milliseconds; None where there is nothing to tell."""
    scored = [row.score for row in recent if row.score is not None]
    latency = np.array([row.latency_us for row in recent]) / 1_000
    day = tuple(map(sum, zip(*(minute.latency for minute in minutes), strict=True))) if minutes else ()
    return {
        "scored": len(scored) / len(recent) if recent else None,
        "mean_score": float(np.mean(scored)) if scored else None,
        "fallback": sum(row.fallback is not None for row in recent) / len(recent) if recent else None,
        "stopped": sum(row.action in (Action.BLOCK, Action.CHALLENGE) for row in recent) / len(recent)
        if recent
        else None,
        "p50_ms": float(np.percentile(latency, 50)) if recent else None,
        "p99_ms": float(np.percentile(latency, 99)) if recent else None,
        "day": sum(day),
        "day_p99_ms": quantile(day, 0.99) if day else None,
    }


def _bands(recent: list[Row]) -> dict[str, Any]:
    """How many of the newest decisions have which risk, by what became of them."""
    places = range(0, 100, BAND)
    series = []
    for action in Action:
        held = Counter(
            row.risk_score // BAND * BAND for row in recent if row.action is action and row.risk_score is not None
        )
        if held:
            series.append({"name": str(action), "data": [held[place] for place in places]})
    names = [f"{place}\N{EN DASH}{place + BAND - 1}" for place in places]
    return {"kind": "bars", "x": names, "series": series, "unit": "decisions"}


def _reasons(recent: list[Row]) -> dict[str, Any]:
    """Which features weigh most: the mean of the absolute contributions, over the newest decisions."""
    weights: dict[str, float] = defaultdict(float)
    for row in recent:
        for reason in row.reasons:
            if reason.code.startswith("model."):
                weights[reason.code.removeprefix("model.")] += abs(reason.weight)
    top = sorted(weights.items(), key=lambda each: -each[1])[:12]
    data = [round(weight / len(recent), 4) for _, weight in top]
    series = [{"name": "mean weight", "data": data}]
    return {"kind": "ranks", "x": [name for name, _ in top], "series": series, "unit": "log odds", "whole": False}
