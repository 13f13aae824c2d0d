"""A person at the console, for whoever looks at pages while something else goes on."""

import asyncio

import requests

from bench.group import OPERATOR, Group

# What operators look at when something is wrong.
PAGES = ("/admin/", "/admin/agents/agenttask/")
SIGN_IN = "/login"


async def sign_in(group: Group) -> dict[str, str]:
    """Sign the operator in; returns the headers of the browser's later requests."""
    return await asyncio.to_thread(_sign_in, group)


def _sign_in(group: Group) -> dict[str, str]:
    with requests.Session() as browser:
        browser.get(group.url + SIGN_IN, timeout=30).raise_for_status()
        form = {
            "login": OPERATOR,
            "password": group.environment["SUTAZAI_OPERATOR_PASSWORD"],
            "csrfmiddlewaretoken": browser.cookies["sutazai_csrf"],
        }
        browser.post(group.url + SIGN_IN, data=form, timeout=30).raise_for_status()
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    return {"Cookie": cookies, "Accept": "text/html"}
