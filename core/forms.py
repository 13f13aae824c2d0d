"""Fields of forms that several pages have."""

from typing import Any

from django import forms


class NamesField(forms.CharField):
    """Names separated by commas, as a list."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return sorted({name.strip() for name in (value or "").split(",")} - {""})
