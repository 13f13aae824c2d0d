"""Classes of priority, by their names."""

from typing import Any

from rest_framework import serializers

from agents.engine import priorities
from agents.models import AgentTask

Priority = AgentTask.Priority

PLACES = [(priority.name.lower(), priority.label) for priority in Priority]
CLASSES = [(name, priority.label) for name, priority in priorities.CLASSES.items()]


class PriorityField(serializers.ChoiceField):
    """A class of priority, by its name. offers_front: also the place before all classes."""

    def __init__(self, *, offers_front: bool = False, **kwargs: Any) -> None:
        super().__init__(choices=PLACES if offers_front else CLASSES, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid_choice", input=data)
        return Priority.__members__[super().to_internal_value(data).upper()]

    def to_representation(self, value: Any) -> str:
        return Priority(value).name.lower()
