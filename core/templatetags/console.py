"""The console's ways of writing, for templates."""

from django import template

from core import formats

register = template.Library()

register.filter("badge", formats.badge)
register.filter("duration", formats.duration)
register.filter("moment", formats.moment)
register.filter("number", formats.number)
register.filter("size", formats.size)
register.filter("span", formats.span)
