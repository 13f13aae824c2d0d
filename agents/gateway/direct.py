"""The agent in whose name calls run that name a model: each team has one, with what its operators allow such calls."""

from django.db import IntegrityError, transaction

from agents.engine import remembered
from agents.kinds.model_call import ModelCall
from agents.models import Agent, AgentVersion
from core.models import User

NAME = "models"
DESCRIPTION = "Answers calls that name a model instead of an agent."
MOST_CHARACTERS = 1_000_000


def agent_for(user: User) -> Agent:
    """The agent for calls of a person's team; made when the first call comes."""
    team_id = user.team_id
    try:
        return remembered.agent_of_kind(team_id, ModelCall.name)
    except Agent.DoesNotExist:
        return _make(user)


def _make(user: User) -> Agent:
    owner = User.objects.filter(is_staff=True, is_active=True).order_by("pk").first() or user
    try:
        with transaction.atomic():
            agent = Agent.objects.create(
                name=NAME, kind=ModelCall.name, description=DESCRIPTION, owner=owner, team=user.team
            )
            agent.make_live(
                agent.add_version(
                    created_by=owner,
                    max_message_characters=MOST_CHARACTERS,
                    truncation=AgentVersion.Truncation.FLAG,
                    note="Came with the first call.",
                )
            )
    except IntegrityError:  # another process was first
        return remembered.agent_of_kind(user.team_id, ModelCall.name)
    return agent
