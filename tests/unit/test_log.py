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
