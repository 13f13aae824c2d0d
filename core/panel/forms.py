"""What people may change of themselves."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone

from core.access.api_keys import MAX_LABEL_CHARACTERS, Scope
from core.forms import NamesField, NewKeyMixin
from core.models import User, Verb
from core.notifications.preferences import Preference

EXPIRY_DAYS = [("", "Never"), ("7", "In 7 days"), ("30", "In 30 days"), ("90", "In 90 days"), ("365", "In a year")]


class PanelForm(forms.BaseForm):
    """A form in the panel's look."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            if not isinstance(field.widget, forms.CheckboxSelectMultiple):
                field.widget.attrs["class"] = "c-field"


class ProfileForm(PanelForm, forms.ModelForm):
    class Meta:
        model = User
        fields = ("first_name", "last_name", "email")


class KeyForm(PanelForm, NewKeyMixin, forms.Form):
    """A key to make, and what it is limited to; what is left empty limits nothing."""

    name = forms.CharField(label="What it is for", max_length=MAX_LABEL_CHARACTERS, required=False)
    expires = forms.ChoiceField(label="Stops working", choices=EXPIRY_DAYS, required=False)
    verbs = forms.MultipleChoiceField(
        label="May only", choices=Verb.choices, required=False, widget=forms.CheckboxSelectMultiple
    )
    agent_names = NamesField(label="Only these agents, with commas between", max_length=2_000, required=False)
    model_names = NamesField(label="Only these models, with commas between", max_length=2_000, required=False)

    def __init__(self, *args: Any, person: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = [(verb.value, verb.label) for verb in Verb if verb in person.verbs]
        self.fields["verbs"].choices = offered  # type: ignore[attr-defined]

    def scope(self) -> Scope:
        days = self.cleaned_data["expires"]
        return Scope(
            verbs=[Verb(verb) for verb in self.cleaned_data["verbs"]],
            agent_names=self.cleaned_data["agent_names"],
            model_names=self.cleaned_data["model_names"],
            expires_at=timezone.now() + timedelta(days=int(days)) if days else None,
        )


class NotificationsForm(forms.Form):
    """What to be told of, and how: for each channel the events that are ticked."""

    in_app = forms.MultipleChoiceField(required=False)
    email = forms.MultipleChoiceField(required=False)

    def __init__(self, *args: Any, preferences: Sequence[Preference], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._preferences = preferences
        names = [(preference.event.name, preference.event.label) for preference in preferences]
        self.fields["in_app"].choices = self.fields["email"].choices = names  # type: ignore[attr-defined]

    def wanted(self) -> list[Preference]:
        in_app, email = self.cleaned_data["in_app"], self.cleaned_data["email"]
        return [
            replace(
                preference,
                in_app=preference.event.name in in_app,
                # Browsers send nothing for what cannot be ticked.
                email=preference.event.name in email if settings.EMAIL_IS_CONFIGURED else preference.email,
            )
            for preference in self._preferences
        ]
