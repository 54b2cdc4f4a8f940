"""Who may ask: not a page of another site, not by another name, not from another machine without the token."""

from __future__ import annotations

import pytest

from tasks.commands.browse.guest_access import Access, RequestRefused

OURS = {"host": "127.0.0.1:8642", "content-type": "application/json"}


def status(access: Access, method: str = "POST", path: str = "/search", token: str | None = None, **headers: str) -> int:
    given = {**OURS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        access.check(method, path, given, token)
    except RequestRefused as refused:
        return refused.status
    return 200


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"host": "localhost:8642", "origin": "http://localhost:8642", "sec_fetch_site": "same-origin"}, 200),
        ({"host": "[::1]:8642"}, 200),
        ({"host": "rebound.example:8642"}, 421),  # DNS rebinding: a name of somebody else's that leads to this machine
        ({"host": "127.0.0.1:80"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://other.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),  # another server of this machine is another site
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"content_type": "text/plain"}, 415),  # what a form of another site may send unasked
        ({"content_type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_on_the_loopback_only_its_own_pages_and_programs_are_answered(headers: dict[str, str], expected: int) -> None:
    assert status(Access.at("127.0.0.1", 8642), **headers) == expected


def test_a_link_elsewhere_may_lead_to_the_page_but_its_data_stay_here() -> None:
    access = Access.at("localhost", 8642)
    assert status(access, "GET", "/", sec_fetch_site="cross-site") == 200
    assert status(access, "GET", "/info", sec_fetch_site="cross-site") == 403


def test_other_machines_need_the_token_in_the_address_the_cookie_or_a_header() -> None:
    access = Access.at("0.0.0.0", 8642)
    assert access.token is not None
    assert len(access.token) >= 32
    assert access.token in access.url
    assert access.token not in repr(access)
    assert "0.0.0.0" not in access.url
    assert status(access) == status(access, token="wrong") == status(access, authorization="Bearer wrong", cookie="a=b; c") == 401
    assert status(access, token=access.token) == 200
    assert status(access, authorization=f"Bearer {access.token}", host="gpu1:8642") == 200
    assert status(access, cookie=f"{access.cookie}={access.token}") == 200
    assert status(access, cookie=f"{access.cookie}={access.token}", origin="http://other.example") == 403
    assert access.token != Access.at("0.0.0.0", 8642).token


def test_the_loopback_has_no_token() -> None:
    assert [Access.at(host, 1).url for host in ("127.0.0.1", "localhost", "::1")] == [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://[::1]:1/",
    ]
