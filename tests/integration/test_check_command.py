"""``check`` and ``catalog`` as they are called from a shell: with an app through Celery, and ``check`` by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

APPS = Path(__file__).parent / "apps"

TEMPLATE = """\
name: ${FLOW:-card_payment}
namespace_name: payments
retries: 3
steps:
  - name: take_money
    handler: {task: shop.pay}
    publishes_events:
      - name: payment.sealed
        publisher: card_publishers.Card
"""


def celery(*arguments: str, app: str = "shop", **settings: object) -> subprocess.CompletedProcess[str]:
    return run(["-m", "celery", "-A", app, "domain-events", *arguments], APPS, SHOP_SETTINGS=json.dumps(settings))


def alone(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # The program as its entry point starts it: not from the folder in which it is called.
    [program] = entry_points(group="console_scripts", name="celery-tasker-events")
    module, _, function = program.value.partition(":")
    start = f"import sys; sys.path.remove(''); from {module} import {function} as main; main(prog_name='celery-tasker-events')"
    return run(["-c", start, *arguments], folder, **variables)


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "card.yaml"
    path.write_text(TEMPLATE)
    (tmp_path / "card_publishers.py").write_text("from celery_tasker_events import BasePublisher as Card\n")
    return path


def test_without_an_app_publishers_are_imported_from_where_it_is_called(template):
    done = alone(template.parent, "check", "*.yaml")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "card.yaml:3: warning: unknown field 'retries' in a task template. Known: "
        + done.stdout.partition("Known: ")[2].partition("\n")[0]
        + "\n1 template, 1 step, 1 event: 0 errors, 1 warning\n"
    )


def test_strict_makes_the_shell_see_a_warning(template):
    assert alone(template.parent, "check", "--strict", "card.yaml").returncode == 1


def test_variables_come_from_the_shell(template):
    done = alone(template.parent, "check", "--format", "json", "card.yaml", FLOW="from_shell")

    assert [found["name"] for found in json.loads(done.stdout)["templates"]] == ["from_shell"]


def test_with_an_app_its_templates_are_checked_against_its_tasks(template):
    template.write_text(TEMPLATE.replace("shop.pay", "shop.pya").replace("card_publishers.Card", "RichPublisher"))

    done = celery("check", tasker_events_templates=[str(template)])

    assert (done.returncode, done.stderr) == (1, "")
    assert f"{template}:5: step 'take_money' names no Celery task (shop.pya). Did you mean 'shop.pay'?" in done.stdout


def test_the_catalog_lists_templates_and_decorators(template):
    template.write_text(TEMPLATE.replace("card_publishers.Card", "RichPublisher"))

    done = celery("catalog", "--format", "json", tasker_events_templates=[str(template)])

    assert (done.returncode, done.stderr) == (0, "")
    found = {(event["task"], event["event"]): event for event in json.loads(done.stdout)}
    assert found["shop.pay", "payment.sealed"]["step"] == "take_money"
    assert found["shop.pay", "payment.sealed"]["template"] == "payments/card_payment"
    assert found["shop.pay", "payment.counted"]["delivery_mode"] == "fast"


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "told"),
    [
        (["check", "gone.yaml"], {}, 1, "gone.yaml: no task template matches this pattern"),
        (["check", "--format", "xml"], {}, 2, "'xml' is not one of 'text', 'json'"),
        (
            ["check"],
            {"imports": ["no_such_module"]},
            1,
            "a module of the app can't be imported: No module named 'no_such_module'",
        ),
        (["catalog"], {"tasker_events_publishers": ["no.such"]}, 1, "publisher 'no.such' can't be imported"),
        (["catalog"], {"tasker_events_templates": ["nowhere/*.yaml"]}, 1, "no task template matches this pattern"),
    ],
)
def test_a_users_mistake_is_told_without_a_traceback(arguments, settings, code, told):
    done = celery(*arguments, **settings)

    assert done.returncode == code
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"), [(["check"], "no task template"), (["check", "-A", "shop", "x"], "No such option")]
)
def test_a_wrong_call_of_the_program_is_told_without_a_traceback(tmp_path, arguments, told):
    done = alone(tmp_path, *arguments)

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_shell_completes_commands_and_options(tmp_path):
    def completed(words: str, *, program: str) -> str:
        variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        if program == "celery":
            start = "import sys; sys.argv[0] = 'celery'; from celery.__main__ import main; main()"
            return run(["-c", start], tmp_path, _CELERY_COMPLETE="bash_complete", **variables).stdout
        return alone(tmp_path, _CELERY_TASKER_EVENTS_COMPLETE="bash_complete", **variables).stdout

    assert "plain,check" in completed("celery-tasker-events ch", program="own")
    assert "plain,--strict" in completed("celery-tasker-events check --s", program="own")
    assert "plain,catalog" in completed("celery domain-events ca", program="celery")
