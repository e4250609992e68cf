"""A coding CLI that speaks the Agent Client Protocol as badly as its last argument says. A program for tests.

``python tests/fakes/acp_agent.py fixes`` edits calc.py in its folder and says so, with a line of two megabytes and
a message that nobody knows on the way, and after it was allowed to. The others: ``dies``, ``deaf`` (never
answers), ``hangs`` (a command of five minutes; a cancelled prompt is answered, and the command and the agent live
on).
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]


def send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def update(**fields: Any) -> None:
    send(method="session/update", params={"sessionId": "s1", "update": fields})


def fix(prompt: dict[str, Any]) -> None:
    text = Path("calc.py").read_text()
    diff = [{"type": "diff", "path": str(Path("calc.py").resolve()), "oldText": text, "newText": "x" * 2_000_000}]
    update(sessionUpdate="a kind of the future", what=[1, 2])
    update(sessionUpdate="tool_call", toolCallId="c1", kind="edit", title="Edit calc.py", status="pending")
    call = {"toolCallId": "c1", "content": diff}
    options = [{"optionId": "ok", "kind": "allow_once", "name": "Allow"}]
    send(
        id=77,
        method="session/request_permission",
        params={"sessionId": "s1", "toolCall": call, "options": options},
    )
    answer = json.loads(sys.stdin.readline())
    assert answer["result"]["outcome"]["optionId"] == "ok", answer
    Path("calc.py").write_text(text.replace("a - b", "a + b"))
    update(sessionUpdate="tool_call_update", toolCallId="c1", status="completed")
    update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": "Done."})
    usage = {"inputTokens": 10, "outputTokens": 2, "totalTokens": 12}
    send(id=prompt["id"], result={"stopReason": "end_turn", "usage": usage})


def hang(prompt: dict[str, Any]) -> None:
    update(sessionUpdate="tool_call", toolCallId="c1", kind="execute", title="sleep", status="in_progress")
    subprocess.Popen(SLEEP, start_new_session=True)
    assert json.loads(sys.stdin.readline())["method"] == "session/cancel"
    usage = {"inputTokens": 10, "outputTokens": 2, "totalTokens": 12}
    send(id=prompt["id"], result={"stopReason": "cancelled", "usage": usage})
    time.sleep(300)  # although its input ends


def main() -> None:
    how = sys.argv[-1]
    for line in sys.stdin:
        message = json.loads(line)
        if how == "dies":
            sys.exit("it needs a newer Node")
        if how == "deaf":
            continue
        if message["method"] == "initialize":
            send(id=message["id"], result={"protocolVersion": 1, "agentCapabilities": {"loadSession": True}})
        elif message["method"] in ("session/new", "session/load"):
            send(id=message["id"], result={"sessionId": "s1", "modes": {"availableModes": [{"id": "yolo"}]}})
        elif message["method"] == "session/set_mode":
            Path(os.environ["HOME"], "mode").write_text(message["params"]["modeId"])
            send(id=message["id"], result={})
        elif message["method"] == "session/prompt":
            fix(message) if how == "fixes" else hang(message)


if __name__ == "__main__":
    main()
