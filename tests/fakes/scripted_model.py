"""A model endpoint that follows a script: real coding CLIs can be run against it, offline and for nothing.

It listens on 127.0.0.1 and plays a list of steps, each of which is one of::

    {"patch": "*** Begin Patch\n*** Update File: a.py\n@@\n-old\n+new\n*** End Patch\n"}
    {"shell": "python3 -m pytest -q"}

and ends with a final text. The script is stateless: the next step is the number of tool results that the
conversation holds. So a retried request gets the same answer, and a resumed session goes on where it was.
A scenario of `SCENARIOS` says what goes wrong on the way. In a test::

    with ScriptedModel("fixes-test", steps=[{"shell": "sed -i s/-/+/ calc.py"}]) as model:
        run_the_cli(base_url=model.base_url)
    assert len(model.requests) == 2

As a program: ``python tests/fakes/scripted_model.py --scenario loop --steps steps.json --port-file port``.

Spoken: OpenAI Responses, ``/v1/responses``, as the Codex CLI needs it; Anthropic Messages, ``/v1/messages``, for
Claude Code; OpenAI Chat, ``/v1/chat/completions``, for OpenCode and others with tools, and for Aider without,
whose replies are edits in a text; Gemini, ``/v1beta/models/MODEL:streamGenerateContent``, for Gemini CLI. For
another protocol, write a class like `ResponsesProtocol` and add its path to `PROTOCOLS`.
"""

import argparse
import contextlib
import gzip
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

FINAL_TEXT = "Done: the task is finished and the tests pass."
RESET_AT = 4_000_000_000
SLOW_COMMAND = "python3 -c 'import time; time.sleep(300)'"

Step = dict[str, str]
Call = tuple[str, str | dict[str, Any]]


@dataclass(frozen=True)
class Scenario:
    """How the endpoint behaves; a failure is an HTTP status with the provider's error code and message."""

    plays: Literal["script", "nothing", "loop", "slow", "refuses"] = "script"
    failure: tuple[int, str, str] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    stream: Literal["whole", "cut", "hang"] = "whole"


SCENARIOS: dict[str, Scenario] = {
    "fixes-test": Scenario(),
    "says-done-without-edit": Scenario(plays="nothing"),
    "refuses": Scenario(plays="refuses"),  # a filter ends the answer; Chat, Messages and Gemini have a word for it
    "loop": Scenario(plays="loop"),  # calls the shell for ever
    "slow-command": Scenario(plays="slow"),  # the script, and then commands of five minutes
    "hang": Scenario(stream="hang"),  # takes the request and never answers
    "cut": Scenario(stream="cut"),  # the answer breaks off in the middle
    "unauthorized": Scenario(failure=(401, "invalid_api_key", "Incorrect API key provided.")),
    "rate-limited": Scenario(failure=(429, "rate_limit_exceeded", "Rate limit reached.")),
    "quota": Scenario(failure=(429, "insufficient_quota", "You exceeded your current quota.")),
    "quota-with-reset": Scenario(
        failure=(429, "insufficient_quota", "You exceeded your current quota. Please try again in 2h30m0s."),
        headers=(
            ("retry-after", "9000"),
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
            ("anthropic-ratelimit-unified-reset", str(RESET_AT)),
        ),
    ),
    "overloaded": Scenario(failure=(500, "server_error", "The server had an error.")),
    "context-too-long": Scenario(
        failure=(400, "context_length_exceeded", "Your input exceeds the context window of this model.")
    ),
}


def scenario_named(name: str) -> Scenario:
    """The scenario; dashes and underscores are the same."""
    return SCENARIOS[name.replace("_", "-")]


@dataclass(frozen=True)
class Request:
    """One request as it came in; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Conversation:
    """What a protocol reads out of a request: the client's tools by name, and how many of them were used."""

    tools: dict[str, dict[str, Any]]
    results: int
    streamed: bool = True


@dataclass(frozen=True)
class Answer:
    """What the model says next: a text that ends the turn, or a call of one of the client's tools."""

    number: int
    text: str = ""
    tool: str = ""
    arguments: str | dict[str, Any] = field(default_factory=dict)
    refused: bool = False

    @property
    def usage(self) -> tuple[int, int]:
        """Input and output tokens, made up but always the same for the same step."""
        return 1000 + 100 * self.number, 50 + self.number


class WireFormat(Protocol):
    """How one provider's requests are read and its answers written."""

    def read(self, body: dict[str, Any]) -> Conversation: ...

    def calls(self, conversation: Conversation, step: Step) -> list[Call]:
        """The client's tools that do a step one after the other, and their arguments."""

    def events(self, conversation: Conversation, answer: Answer, model: str) -> Iterator[dict[str, Any]]: ...

    def failure(self, status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
        """The status and the body of an answer that is an error."""


class ResponsesProtocol:
    """OpenAI Responses, streamed."""

    def read(self, body: dict[str, Any]) -> Conversation:
        tools: dict[str, dict[str, Any]] = {}
        for tool in body.get("tools") or []:
            for one in tool.get("tools", []) if tool.get("type") == "namespace" else [tool]:
                tools[one.get("name") or one.get("type")] = one
        items = body.get("input")
        items = items if isinstance(items, list) else []
        results = sum(1 for item in items if str(item.get("type")).endswith("_call_output"))
        return Conversation(tools, results)

    def calls(self, conversation: Conversation, step: Step) -> list[Call]:
        tools = conversation.tools
        if "patch" in step and "apply_patch" in tools:
            return [("apply_patch", step["patch"])]
        # Codex takes a patch through its shell, too, for models that it does not give the tool.
        command = (
            step["shell"] if "shell" in step else f"apply_patch <<'END_OF_PATCH'\n{step['patch']}END_OF_PATCH\n"
        )
        shell = "exec_command" if "exec_command" in tools else "shell_command"
        return [(shell, {"cmd" if shell == "exec_command" else "command": command})]

    def failure(self, status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
        return status, {"error": {"message": message, "type": code, "code": code, "param": None}}

    def events(self, conversation: Conversation, answer: Answer, model: str) -> Iterator[dict[str, Any]]:
        item = self._item(conversation, answer)
        read, written = answer.usage
        response = {
            "id": f"resp_{answer.number}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "status": "in_progress",
            "output": [],
        }
        usage = {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 200},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 10},
            "total_tokens": read + written,
        }
        yield {"type": "response.created", "response": response}
        yield {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}}
        yield {"type": "response.output_item.done", "output_index": 0, "item": item}
        done = {**response, "status": "completed", "output": [item], "usage": usage}
        yield {"type": "response.completed", "response": done}

    def _item(self, conversation: Conversation, answer: Answer) -> dict[str, Any]:
        name = {"id": f"item_{answer.number}", "status": "completed"}
        if not answer.tool:
            content = [{"type": "output_text", "text": answer.text, "annotations": []}]
            return {**name, "type": "message", "role": "assistant", "content": content}
        call = {**name, "call_id": f"call_{answer.number}", "name": answer.tool}
        if conversation.tools.get(answer.tool, {}).get("type") == "custom":
            return {**call, "type": "custom_tool_call", "input": answer.arguments}
        return {**call, "type": "function_call", "arguments": json.dumps(answer.arguments)}


class MessagesProtocol:
    """Anthropic Messages, streamed. A patch is done by the client's Edit, which wants the file read before."""

    def read(self, body: dict[str, Any]) -> Conversation:
        tools = {str(tool.get("name")): tool for tool in body.get("tools") or []}
        contents = [message.get("content") for message in body.get("messages") or []]
        blocks = [block for content in contents if isinstance(content, list) for block in content]
        return Conversation(tools, sum(1 for block in blocks if block.get("type") == "tool_result"))

    def calls(self, conversation: Conversation, step: Step) -> list[Call]:
        if "Bash" not in conversation.tools:  # asked beside the task, for a title for example
            return []
        if "shell" in step:
            return [("Bash", {"command": step["shell"], "description": "run"})]
        return [
            call
            for path, old, new in replacements(step["patch"])
            for call in (
                ("Read", {"file_path": path}),
                ("Edit", {"file_path": path, "old_string": old, "new_string": new}),
            )
        ]

    def events(self, conversation: Conversation, answer: Answer, model: str) -> Iterator[dict[str, Any]]:
        read, written = answer.usage
        message = {
            "id": f"msg_{answer.number}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": read, "cache_read_input_tokens": 200, "output_tokens": 1},
        }
        block: dict[str, Any] = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": answer.text}
        if answer.tool:
            name = {"id": f"toolu_{answer.number}", "name": answer.tool, "input": {}}
            block = {"type": "tool_use", **name}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(answer.arguments)}
        stop = "refusal" if answer.refused else "tool_use" if answer.tool else "end_turn"
        reason = {"stop_reason": stop, "stop_sequence": None}
        yield {"type": "message_start", "message": message}
        yield {"type": "content_block_start", "index": 0, "content_block": block}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
        yield {"type": "message_delta", "delta": reason, "usage": {"output_tokens": written}}
        yield {"type": "message_stop"}

    def failure(self, status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
        status, kind, said = _ANTHROPIC.get(code, (status, "invalid_request_error", message))
        return status, {"type": "error", "error": {"type": kind, "message": said}}


_ANTHROPIC = {
    "invalid_api_key": (401, "authentication_error", "invalid x-api-key"),
    "rate_limit_exceeded": (429, "rate_limit_error", "This request would exceed your rate limit."),
    "insufficient_quota": (429, "rate_limit_error", "This request would exceed your organization's usage limit."),
    "server_error": (529, "overloaded_error", "Overloaded"),
    "context_length_exceeded": (
        400,
        "invalid_request_error",
        "prompt is too long: 250000 tokens > 200000 maximum",
    ),
}


class ChatProtocol:
    """OpenAI Chat: streamed, with the tools of several clients; without tools in one piece, edits in the text."""

    def read(self, body: dict[str, Any]) -> Conversation:
        functions = [tool.get("function") or {} for tool in body.get("tools") or []]
        results = sum(1 for message in body.get("messages") or [] if message.get("role") == "tool")
        tools = {str(function.get("name")): function for function in functions}
        return Conversation(tools, results, streamed=bool(body.get("stream")))

    def calls(self, conversation: Conversation, step: Step) -> list[Call]:
        tools = conversation.tools
        if not tools:
            return [("", text) for text in _edits_as_text(step)]
        if "shell" in step:
            shell = "bash" if "bash" in tools else "run_shell_command"
            return [(shell, {"command": step["shell"], "description": "run", "timeout": 600_000})]
        return [call for edit in replacements(step["patch"]) for call in self._edit(tools, *edit)]

    def _edit(self, tools: Mapping[str, Any], path: str, old: str, new: str) -> list[Call]:
        if "view" in tools:
            return [("view", {"path": path}), ("edit", {"path": path, "old_str": old, "new_str": new})]
        if "read_file" in tools:
            change = {"file_path": path, "old_string": old, "new_string": new}
            return [("read_file", {"file_path": path}), ("edit", change)]
        return [
            ("read", {"filePath": path}),
            ("edit", {"filePath": path, "oldString": old, "newString": new}),
        ]

    def events(self, conversation: Conversation, answer: Answer, model: str) -> Iterator[dict[str, Any]]:
        read, written = answer.usage
        said = answer.text or str(answer.arguments or "")
        head = {"id": f"chatcmpl-{answer.number}", "created": int(time.time()), "model": model}
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        if not conversation.streamed:
            message = {"role": "assistant", "content": said}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            yield {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            return
        delta: dict[str, Any] = {"role": "assistant", "content": said}
        if answer.tool:
            function = {"name": answer.tool, "arguments": json.dumps(answer.arguments)}
            call = {"index": 0, "id": f"call_{answer.number}", "type": "function", "function": function}
            delta = {"role": "assistant", "content": None, "tool_calls": [call]}
        reason = "content_filter" if answer.refused else "tool_calls" if answer.tool else "stop"
        head["object"] = "chat.completion.chunk"
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
        yield {**head, "choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 200}}}

    def failure(self, status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
        return status, {"error": {"message": message, "type": code, "code": code, "param": None}}


def _edits_as_text(step: Step) -> list[str]:
    edits = [
        f"{path}\n```\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n```\n"
        for path, old, new in replacements(step.get("patch", ""))
    ]
    return ["\n".join(["Here is the change.\n", *edits])] if edits else []


class GeminiProtocol:
    """Gemini's generateContent, streamed or not, with the tools of Gemini CLI."""

    def read(self, body: dict[str, Any]) -> Conversation:
        listed = [one for tool in body.get("tools") or [] for one in tool.get("functionDeclarations") or []]
        parts = [part for content in body.get("contents") or [] for part in content.get("parts") or []]
        results = sum(1 for part in parts if "functionResponse" in part)
        return Conversation({str(one.get("name")): one for one in listed}, results)

    def calls(self, conversation: Conversation, step: Step) -> list[Call]:
        if "run_shell_command" not in conversation.tools:  # asked beside the task
            return []
        if "shell" in step:
            arguments = {"command": step["shell"], "description": "run", "is_background": False}
            return [("run_shell_command", arguments)]
        change = {"instruction": "mend it"}
        return [
            ("replace", {"file_path": path, "old_string": old, "new_string": new, **change})
            for path, old, new in replacements(step["patch"])
        ]

    def events(self, conversation: Conversation, answer: Answer, model: str) -> Iterator[dict[str, Any]]:
        read, written = answer.usage
        part: dict[str, Any] = {"text": answer.text}
        if answer.tool:
            call = {"name": answer.tool, "args": answer.arguments, "id": f"call_{answer.number}"}
            part = {"functionCall": call}
        usage = {
            "promptTokenCount": read,
            "candidatesTokenCount": written,
            "cachedContentTokenCount": 200,
            "totalTokenCount": read + written,
        }
        said = {"content": {"role": "model", "parts": [part]}, "index": 0}
        done = {"content": {"role": "model", "parts": []}, "index": 0, "finishReason": "STOP"}
        if answer.refused:
            said, done = {"index": 0}, {"index": 0, "finishReason": "SAFETY"}
        head = {"modelVersion": model, "responseId": f"r{answer.number}"}
        yield {**head, "candidates": [said]}
        yield {**head, "candidates": [done], "usageMetadata": usage}

    def failure(self, status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
        status, name, said = _GOOGLE.get(code, (status, "UNKNOWN", message))
        error: dict[str, Any] = {"code": status, "message": said, "status": name}
        if code == "insufficient_quota":
            named = "type.googleapis.com/google.rpc."
            violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}
            error["details"] = [{"@type": f"{named}QuotaFailure", "violations": [violation]}]
            if "2h30m0s" in message:
                error["message"] += " Please retry in 2h30m0s."
                error["details"].append({"@type": f"{named}RetryInfo", "retryDelay": "9000s"})
        return status, {"error": error}


_GOOGLE = {
    "invalid_api_key": (401, "UNAUTHENTICATED", "API key not valid. Please pass a valid API key."),
    "rate_limit_exceeded": (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "insufficient_quota": (
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "server_error": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "context_length_exceeded": (
        400,
        "INVALID_ARGUMENT",
        "The input token count (2500000) exceeds the maximum number of tokens allowed (1048576).",
    ),
}


def replacements(patch: str) -> list[tuple[str, str, str]]:
    """A patch as texts to be replaced: the path, the old lines and the new ones, of each file."""
    found: list[tuple[str, str, str]] = []
    for line in patch.splitlines(keepends=True):
        if line.startswith("*** Update File: "):
            found.append((line.removeprefix("*** Update File: ").strip(), "", ""))
        elif found and line[:1] in " -+":
            path, old, new = found[-1]
            found[-1] = (path, old + line[1:] * (line[0] != "+"), new + line[1:] * (line[0] != "-"))
    return found


PROTOCOLS: dict[str, WireFormat] = {
    "/v1/chat/completions": ChatProtocol(),
    "/v1/messages": MessagesProtocol(),
    "/v1/responses": ResponsesProtocol(),
    ":generateContent": GeminiProtocol(),
    ":streamGenerateContent": GeminiProtocol(),
}


class ScriptedModel:
    """A running endpoint, as a context manager; `requests` holds what the client asked, in order."""

    def __init__(
        self, scenario: str = "fixes-test", *, steps: Sequence[Step] = (), final: str = FINAL_TEXT
    ) -> None:
        self.scenario = scenario_named(scenario)
        self.steps = list(steps)
        self.final = final
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.model = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "ScriptedModel":
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, protocol: WireFormat, conversation: Conversation) -> Answer:
        number = conversation.results
        steps: list[Step] = [] if self.scenario.plays in ("nothing", "loop") else self.steps
        calls = [call for step in steps for call in protocol.calls(conversation, step)][number:]
        if self.scenario.plays == "loop":
            calls = protocol.calls(conversation, {"shell": f"true # {number}"})
        elif self.scenario.plays == "slow" and not calls:
            # Again and again, for a client may give up waiting for a command and ask what to do next.
            calls = protocol.calls(conversation, {"shell": SLOW_COMMAND})
        if self.scenario.plays == "refuses":
            return Answer(number, refused=True)
        if not calls:
            return Answer(number, text=self.final)
        tool, arguments = calls[0]
        return Answer(number, tool=tool, arguments=arguments)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    model: ScriptedModel

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle of an answer is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send_json(200, {"object": "list", "data": [], "models": []})

    def do_POST(self) -> None:
        model = self.server.model
        path = self.path.split("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._body(headers)
        model.requests.append(Request(path, headers, body))
        place, _, action = path.rpartition(":")
        protocol = PROTOCOLS.get(f":{action}" if place else path)
        if protocol is None:
            self._send_json(404, {"error": {"message": f"no such path: {path}", "code": "not_found"}})
        elif model.scenario.failure is not None:
            self._send_json(*protocol.failure(*model.scenario.failure), model.scenario.headers)
        else:
            conversation = protocol.read(body)
            answer = model.answer(protocol, conversation)
            named = place.rpartition("/")[2] or str(body.get("model"))
            events = protocol.events(conversation, answer, named)
            streamed = body.get("stream") or action.startswith("stream")
            self._send_stream(events) if streamed else self._send_whole(events)

    def _body(self, headers: dict[str, str]) -> dict[str, Any]:
        if "chunked" in headers.get("transfer-encoding", ""):
            raw = b"".join(self._chunks())
        else:
            raw = self.rfile.read(int(headers.get("content-length", "0")))
        raw = gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send_json(self, status: int, content: dict[str, Any], headers: Iterable[tuple[str, str]] = ()) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def _send_whole(self, events: Iterable[dict[str, Any]]) -> None:
        if self.server.model.scenario.stream == "hang":
            self.server.model.stopping.wait()
            return
        self._send_json(200, next(iter(events)))

    def _send_stream(self, events: Iterable[dict[str, Any]]) -> None:
        scenario = self.server.model.scenario
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.flush()
        if scenario.stream == "hang":
            self.server.model.stopping.wait()
            return
        listed = list(events)
        for event in listed[: len(listed) // 2] if scenario.stream == "cut" else listed:
            name = f"event: {event['type']}\n" if "type" in event else ""
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
        if scenario.stream == "whole" and "object" in listed[0]:  # as OpenAI Chat ends
            self.wfile.write(b"data: [DONE]\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model endpoint on 127.0.0.1.")
    parser.add_argument("--scenario", default="fixes-test", help=", ".join(SCENARIOS))
    parser.add_argument("--steps", type=Path, help="a JSON file with the list of steps")
    parser.add_argument("--final", default=FINAL_TEXT, help="the last answer's text")
    parser.add_argument("--port-file", type=Path, help="gets the port's number once requests are answered")
    options = parser.parse_args()
    steps = json.loads(options.steps.read_text()) if options.steps else []
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with ScriptedModel(options.scenario, steps=steps, final=options.final) as model:
        if options.port_file:
            temporary = options.port_file.with_name(f".{options.port_file.name}.{os.getpid()}")
            temporary.write_text(str(model.port))
            temporary.replace(options.port_file)
        print(model.base_url, flush=True)
        stopped.wait()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()


if __name__ == "__main__":
    main()
