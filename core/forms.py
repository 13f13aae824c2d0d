"""What forms of several pages have in common."""

from typing import Any

from django import forms

from core.access import api_keys
from core.exceptions import InvalidInput


class NamesField(forms.CharField):
    """Names separated by commas, as a list."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return sorted({name.strip() for name in (value or "").split(",")} - {""})


class NewKeyMixin(forms.BaseForm):
    """A form for a key to make, which says by `scope` what it is limited to. It has the rules of `api_keys`."""

    def scope(self) -> api_keys.Scope:
        raise NotImplementedError

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                api_keys.check(cleaned["name"], self.scope())
            except InvalidInput as refusal:
                for field, texts in refusal.errors.items():
                    self.add_error(field, texts)
        return cleaned
