"""The second chapter: an agent is written, used by a colleague, narrowed, forbidden, and deleted for good."""

import importlib.resources
from collections.abc import Mapping
from pathlib import Path

from perron.cli.demo import building, narrowing, team
from perron.cli.demo.stage import Stage

NAME = "agents"

_NO_SHARING = f"""
  - name: {narrowing.PLAN_WITHOUT_SHARING}
    display_name: Solo
    terms_class: PAID
    tier: scale-1
    entitlements:
      agent_channels: api
"""


def settings(folder: Path) -> Mapping[str, str]:
    """What the suite is told for this chapter: Perron's own plans, and one that shares nothing."""
    packaged = importlib.resources.files("perron.identity").joinpath("plans.yaml").read_text(encoding="utf-8")
    path = folder / "plans.yaml"
    path.write_text(packaged + _NO_SHARING, encoding="utf-8")
    return {"PERRON_IDENTITY_PLANS_FILE": str(path)}


def play(stage: Stage) -> None:
    """Plays the five steps."""
    with team.gathered(stage) as desk:
        agent, marker = building.write(stage, desk)
        building.answer(stage, desk, agent, marker)
        narrowing.restrict(stage, desk, agent)
        narrowing.change_plan(stage, desk, agent)
        narrowing.end(stage, desk, agent)
