"""A small MCP server on standard input and output with one tool; it writes down how it was started.

Run as ``python mcp_server.py FILE``.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        info = {"name": "docs", "version": "1"}
        version = params.get("protocolVersion", "2025-06-18")
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        tool = {
            "name": "look_up",
            "description": "Look it up.",
            "inputSchema": {"type": "object", "properties": {}},
        }
        return {"tools": [tool]}
    return {"content": [{"type": "text", "text": "found it"}]} if method == "tools/call" else {}


def main() -> None:
    Path(sys.argv[1]).write_text(json.dumps(dict(os.environ)))
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            result = answer(message["method"], message.get("params") or {})
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


if __name__ == "__main__":
    main()
