"""Who may see the console, who may act in it, and what is refused: by plain requests, and by a page of another site."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from console_process import ConsoleProcess
from letters import park
from paying_shop import PayingShop
from queues import messages
from replaying import in_queue
from selenium.webdriver.common.keys import Keys
from sending import event, send
from worker_process import wait_until

APPS = Path(__file__).parent / "apps"

RETRY = "/dead-letters/retry"


@pytest.fixture(scope="module")
def consoles(tmp_path_factory, new_database):
    """One that only looks, and one that acts, on the same database."""
    dsn = new_database()
    send(dsn, event("payment.processed", {"total": 1}))
    folder = tmp_path_factory.mktemp
    settings = {"SHOP_SETTINGS": json.dumps({"tasker_events_dsn": dsn})}
    looking = ConsoleProcess(folder("looking"), "--dsn", dsn)
    acting = ConsoleProcess(folder("acting"), "--allow-actions", app="console_shop", cwd=APPS, environment=settings)
    both = (looking.start(), acting.start())
    for console in both:
        console.dsn = dsn
    yield both
    for console in both:
        assert console.stop() == 143
        assert "Traceback" not in console.errors.read_text()


@pytest.fixture
def looking(consoles):
    return consoles[0]


@pytest.fixture
def acting(consoles):
    return consoles[1]


@pytest.fixture
def letter(acting) -> int:
    return park(acting.dsn, event("payment.parked", {"total": 2}))


def parked(console) -> list[str]:
    return [letter["event_name"] for letter in messages(console.dsn, "payments", dead_letters=True)]


def test_without_the_token_nothing_is_shown(looking):
    for path in ("/", "/queues", "/stream", "/workflow?id=order-1", "/?token=wrong", "/queues?token=wrong"):
        for cookie in ("", looking.cookie.partition("=")[0] + "=wrong"):
            answer = looking.get(path, Cookie=cookie)
            assert answer.status == 401, path
            assert "payment" not in answer.text
            assert "set-cookie" not in answer.headers
            assert "dbname" not in answer.text


def test_the_token_is_exchanged_for_a_cookie_that_no_script_reads_and_no_other_site_sends(looking):
    answer = looking.get(f"/?{urlsplit(looking.url).query}", Cookie="")

    assert answer.status == 200
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert urlsplit(looking.url).query.removeprefix("token=") not in name
    assert looking.get("/", Cookie=name).status == 200


@pytest.mark.parametrize("path", ["/", "/queues", "/nowhere", "/static/live.js", "/static/console.css", "/dead-letters"])
def test_every_answer_keeps_the_browser_strict(looking, path):
    for cookie in (looking.cookie, ""):
        headers = looking.get(path, Cookie=cookie).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_no_page_has_a_script_or_a_style_in_it_or_anything_of_elsewhere(acting, letter):
    for path in (
        "/",
        "/queues",
        "/workflow?id=order-1",
        "/dead-letters",
        f"{RETRY}?letter=payments:{letter}",
        "/replay?preview=1",
    ):
        text = acting.get(path).text
        assert "<style" not in text
        assert " style=" not in text
        assert " on" not in "".join(part for part in text.split("<") if "=" in part and " on" in part.partition(">")[0]), path
        assert text.count("<script") == text.count('<script src="/static/')
        assert "//" not in text.replace("<!doctype html>", "").replace("http://www.w3.org", ""), path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "10.0.0.1", "localhost.evil"]
)
def test_a_name_that_was_made_to_lead_here_is_refused(looking, host):
    for path in ("/", "/stream", "/static/live.js"):
        assert looking.get(path, Host=host).status == 400, path


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:9999", "[::1]:8787", "127.0.0.1:1"])
def test_the_names_of_this_machine_are_known_also_through_a_tunnel(looking, host):
    assert looking.get("/", Host=host).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1", "http://localhost:1"])
def test_a_form_of_another_site_is_refused(acting, letter, origin):
    form = {"csrf_token": acting.csrf_token(f"{RETRY}?letter=payments:{letter}"), "confirmed": "yes"}

    answer = acting.post(RETRY, {**form, "letter": f"payments:{letter}"}, Origin=origin)

    assert answer.status == 403
    assert "payment.parked" in parked(acting)


def test_a_form_that_is_not_ours_or_not_confirmed_or_of_somebody_else_does_nothing(acting, letter):
    token, names = acting.csrf_token(f"{RETRY}?letter=payments:{letter}"), {"letter": f"payments:{letter}"}

    assert acting.post(RETRY, {**names, "confirmed": "yes"}).status == 403
    assert acting.post(RETRY, {**names, "confirmed": "yes", "csrf_token": "wrong"}).status == 403
    assert acting.post(RETRY, {**names, "csrf_token": token}).status == 400
    assert acting.post(RETRY, {**names, "confirmed": "yes", "csrf_token": token}, Cookie="").status == 401
    assert acting.post(RETRY, {**names, "confirmed": "yes", "csrf_token": token, "more": "x" * 70_000}).status == 413
    assert "payment.parked" in parked(acting)


def test_one_that_only_looks_has_no_page_that_acts(looking, letter):
    assert looking.get("/replay").status == 404
    assert looking.get(f"{RETRY}?letter=payments:{letter}").status == 404
    assert looking.post(RETRY, {"letter": f"payments:{letter}", "confirmed": "yes"}).status == 404
    assert looking.post("/", {}).status == 405
    for path in ("/", "/dead-letters", f"/dead-letter?namespace=payments&id={letter}"):
        text = looking.get(path).text
        assert "/replay" not in text
        assert "Retry" not in text
        assert RETRY not in text


@pytest.fixture
def other_site(acting) -> Iterator[str]:
    """A page of another site that sends a form to the console at once."""
    form = f'<form method="post" action="{acting.base}{RETRY}"><input name="letter"></form>'
    page = f"{form}<script>document.forms[0].submit()</script>"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # its name
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *arguments: object) -> None:
            """Be silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def signed_in(acting, browser):
    browser.open(acting.url)
    wait_until(lambda: browser.driver.current_url == f"{acting.base}/", "the token is exchanged for a cookie")
    return browser


def test_a_page_of_another_site_can_not_act_with_the_browser_of_one_who_may(signed_in, acting, other_site, letter):
    signed_in.open(other_site)

    wait_until(lambda: signed_in.driver.current_url == f"{acting.base}{RETRY}", "the form is sent")
    signed_in.wait_for("h1", "Refused")
    assert "payment.parked" in parked(acting)


def test_a_dead_letter_is_published_after_all_when_that_is_confirmed(signed_in, acting, letter):
    before = len(messages(acting.dsn, "payments"))
    signed_in.open(f"{acting.base}/dead-letter?namespace=payments&id={letter}")
    signed_in.one("main .primary").click()
    signed_in.wait_for("h1", "Publish after all?")
    assert "would be sent as it is" in signed_in.texts("main li")[0]

    # The browser does not send a form whose box is not ticked.
    signed_in.one("main .primary").click()
    assert signed_in.texts("h1") == ["Publish after all?"]
    assert len(messages(acting.dsn, "payments")) == before
    signed_in.one("[name=confirmed]").send_keys(Keys.SPACE)
    signed_in.one("main .primary").send_keys(Keys.ENTER)

    signed_in.wait_for("h1", "1 published, 0 left")
    [*_, published] = messages(acting.dsn, "payments")
    assert (published["event_name"], published["payload"]) == ("payment.parked", {"total": 2})
    assert not acting.get(f"/dead-letter?namespace=payments&id={letter}").text.count("payment.parked")


def test_the_app_makes_an_event_again_and_what_still_can_not_be_published_stays(signed_in, acting):
    shop = PayingShop(acting.dsn, schema={"required": ["more"]})
    shop.pay({"total": 3, "id": "mends"}, {"total": -3})
    shop.events.close()
    signed_in.open(f"{acting.base}/dead-letters?event=payment.processed")
    for box in signed_in.all("[name=letter]"):
        box.click()
    signed_in.one("form[action='/dead-letters/retry'] .primary").click()
    signed_in.wait_for("h1", "Publish after all?")
    signed_in.one("[name=confirmed]").click()
    signed_in.one("main .primary").click()

    signed_in.wait_for("h1", "1 published, 1 left")
    assert [line.partition(": ")[2].split(" ")[0] for line in signed_in.texts("#done li")] == ["published", "stays:"]
    [*_, published] = messages(acting.dsn, "payments")
    assert published["payload"] == {"total": 3, "id": "mends"}


def test_archived_events_are_replayed_when_that_is_confirmed(signed_in, acting):
    send(acting.dsn, event("crm.created", {"n": 1}, namespace="crm"), event("crm.deleted", namespace="crm"), archive=True)
    signed_in.open(f"{acting.base}/replay")
    signed_in.one("#event").send_keys("crm.created", Keys.ENTER)
    signed_in.wait_for("h2", "1 event", "The first of them")
    assert signed_in.texts("#main .what a") == ["crm.created"]
    assert in_queue(acting.dsn, "crm") == []

    signed_in.one("[name=confirmed]").click()
    signed_in.one("main section .primary").click()

    signed_in.wait_for("h1", "1 events replayed")
    [(message, headers)] = in_queue(acting.dsn, "crm")
    assert message["event_name"] == "crm.created"
    assert headers["replay_id"] in signed_in.texts("main .muted")[0]


def test_what_has_changed_since_it_was_looked_at_is_not_replayed(acting):
    send(acting.dsn, event("hr.hired", namespace="hr"), archive=True)
    path = "/replay?preview=1&namespace=hr"
    form = {"namespace": "hr", "count": "1", "confirmed": "yes", "csrf_token": acting.csrf_token(path)}
    send(acting.dsn, event("hr.hired", namespace="hr"), archive=True)

    answer = acting.post("/replay", form)

    assert "Nothing was sent: look again." in answer.text
    assert in_queue(acting.dsn, "hr") == []
