"""The log: the same fields everywhere, and an agent's words in it are only words."""

import json
import subprocess
import sys

import pytest

CODE = """
from loguru import logger
from supervisor import log
log.configure(json_lines={json_lines})
event = {{"event": "task.started"}}
logger.bind(event=event, task="acme.login").info("said: {{}}", "{{record}} \x1b[31m<red>x</red>")
logger.debug("not shown")
try:
    raise ValueError("secret-less")
except ValueError:
    logger.bind(project="acme").exception("failed")
"""


@pytest.mark.parametrize("json_lines", [False, True])
def test_lines_carry_their_fields_and_obey_nobody(json_lines: bool) -> None:
    code = CODE.format(json_lines=json_lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stderr and "not shown" not in done.stderr and done.stdout == ""
    first, *rest = done.stderr.splitlines()
    if json_lines:
        record = json.loads(first)
        assert record["message"] == "said: {record} <red>x</red>" and record["ts"].endswith("Z")
        assert (record["level"], record["task"], record["event"]) == ("INFO", "acme.login", "task.started")
        assert "secret-less" in json.loads(rest[-1])["exception"]
    else:
        assert first.endswith("INFO    said: {record} <red>x</red> task=acme.login")
        assert "project=acme" in rest[0] and "ValueError: secret-less" in rest[-1]


JOURNAL = """
import os, sys
from loguru import logger
from supervisor import log
seen = os.fstat(2)
assert log.is_journal({"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"})
assert not log.is_journal({"JOURNAL_STREAM": "1:1"}) and not log.is_journal({})
log.configure(json_lines=sys.argv[1] == "json", priorities=True)
logger.info("well")
try:
    raise ValueError("two\\nlines")
except ValueError:
    logger.exception("not well")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_for_the_journal_every_line_begins_with_its_priority(form: str) -> None:
    done = subprocess.run([sys.executable, "-c", JOURNAL, form], capture_output=True, text=True, check=True)
    first, *rest = done.stderr.splitlines()
    assert first.startswith("<6>") and "well" in first
    assert rest and all(line.startswith("<3>") for line in rest)
    if form == "json":
        assert json.loads(rest[0].removeprefix("<3>"))["level"] == "ERROR" and len(rest) == 1
