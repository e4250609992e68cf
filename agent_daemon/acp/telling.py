"""What the messages between us and a CLI mean, as typed events. Pure: no input or output.

CLIs differ in what they tell: tokens with the last answer (most), with each reply (Qwen Code), of the last reply
only (OpenCode), or not at all; costs as a sum of the session. What a resumed session repeats of earlier runs comes
before the prompt, and is passed over.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from agent_daemon.acp.order import SESSION_LOST
from agent_daemon.acp.toolcall import ToolCall
from agent_daemon.clis.base import Outcome, Progress, Usage, count_of, printable, text_of, usd_of
from agent_daemon.clis.failures import failure_named

_LONGEST_MESSAGE = 3500
# OpenCode asks again and again for an answer that breaks off: 992 times in 150 seconds were seen.
_MOST_REPEATS = 4
_STOPS: dict[str, Outcome] = {
    "end_turn": "completed",
    "max_tokens": "context_too_long",
    "max_turn_requests": "turn_limit",
    "refusal": "refused",
    "cancelled": "interrupted",
}
# Gemini CLI tells a change of its mode as if the model had said it.
_NO_WORDS = re.compile(r"\[MODE_UPDATE\] \w+")
_SESSIONS = ("session/new", "session/load")
_OURS = ("initialize", "session/prompt", *_SESSIONS)


class Telling:
    """Follows one conversation; `sent` and `received` return the events that a message tells of.

    `resumed`: what its session cost is a sum with what was before, so that the first one told is where to begin.
    """

    def __init__(self, *, resumed: bool = False, tells_cost: bool = True) -> None:
        self._asked: dict[Any, tuple[str, str]] = {}
        self._calls: dict[str, ToolCall] = {}
        self._prompted = self._replying = self._broken = False
        self._text, self._message_id, self._last_words = "", "", ""
        self._cost: float | None = None if resumed else 0.0
        self._tells_cost = tells_cost
        self._repeated = 0

    def sent(self, message: Mapping[str, Any]) -> list[Progress]:
        method = message.get("method")
        if method in _OURS:
            self._asked[message.get("id")] = (str(method), text_of(message, "params", "sessionId"))
            self._prompted = self._prompted or method == "session/prompt"
        return []

    def received(self, message: Mapping[str, Any]) -> list[Progress]:
        method = message.get("method")
        if method == "session/update":
            update = _mapping(_mapping(message.get("params")).get("update"))
            return list(self._update(update)) if self._prompted else []
        if method == "session/request_permission":
            call = _mapping(_mapping(message.get("params")).get("toolCall"))
            return list(self._tool(call)) if self._prompted else []
        if method is None and message.get("id") in self._asked:
            return list(self._answer(*self._asked.pop(message["id"]), message))
        return []

    def closed(self, why: str) -> list[Progress]:
        """The conversation is over without an answer to the prompt."""
        return [*self._said(), Progress(kind="error", message=printable(why))]

    def _update(self, update: Mapping[str, Any]) -> Iterator[Progress]:
        match update.get("sessionUpdate"):
            case "agent_message_chunk":
                yield from self._chunk(update)
            case "tool_call" | "tool_call_update":
                yield from self._tool(update)
            case "usage_update":
                yield from self._said()
                yield from self._spent(update)
            case "session_info_update":
                yield from self._codex(_mapping(_mapping(update.get("_meta")).get("codex")))

    def _chunk(self, update: Mapping[str, Any]) -> Iterator[Progress]:
        counts = _mapping(_mapping(update.get("_meta")).get("usage"))
        if counts:
            yield Progress(kind="usage", usage=_usage(counts))
        content, message_id = _mapping(update.get("content")), text_of(update, "messageId")
        text = content.get("text") if isinstance(content.get("text"), str) else ""
        if not text or _NO_WORDS.fullmatch(str(text)):
            return
        if message_id != self._message_id:
            yield from self._said()
            self._replying, self._message_id = False, message_id
        yield from self._reply()
        self._text += str(text)
        if len(self._text) > _LONGEST_MESSAGE:
            yield from self._said()

    def _reply(self) -> Iterator[Progress]:
        """The model begins to answer: one turn."""
        if not self._replying:
            self._replying = True
            yield Progress(kind="usage", usage=Usage(turns=1))

    def _said(self) -> Iterator[Progress]:
        text, self._text = printable(self._text), ""
        if text and self._broken:
            yield failure_told({"message": text})
        elif text:
            again = self._message_id != "" and text == self._last_words
            self._repeated = self._repeated + 1 if again else 0
            self._last_words = text
            yield Progress(kind="message", message=text)
            if self._repeated == _MOST_REPEATS:
                why = f"it said the same thing {_MOST_REPEATS + 1} times in a row"
                yield Progress(kind="error", message=why, outcome="hung")

    def _tool(self, update: Mapping[str, Any]) -> Iterator[Progress]:
        call_id = text_of(update, "toolCallId")
        if not call_id:
            return
        if call_id not in self._calls:
            yield from self._said()
            yield from self._reply()
        call = self._calls.setdefault(call_id, ToolCall(call_id))
        yield from call.take(update)
        self._last_words = ""
        if call.ended:
            self._replying = False

    def _spent(self, update: Mapping[str, Any]) -> Iterator[Progress]:
        """A cost is told as the sum of the session; a sum of nothing means that no price is known."""
        amount = usd_of(_mapping(update.get("cost")), "amount")
        if not amount:
            return
        before, self._cost = self._cost, amount
        if self._tells_cost and before is not None and amount > before:
            yield Progress(kind="usage", usage=Usage(cost_usd=round(amount - before, 9)))

    def _codex(self, told: Mapping[str, Any]) -> Iterator[Progress]:
        """Codex tells its errors beside the conversation, and the last one as a message."""
        error = _mapping(told.get("error"))
        if error.get("willRetry") is True:
            said = (text_of(error, "message"), text_of(error, "additionalDetails"))
            yield Progress(kind="retry", message=" ".join(filter(None, said)))
        if text_of(told, "threadStatus", "type") == "systemError":
            yield from self._said()
            self._broken = True

    def _answer(self, method: str, session_id: str, message: Mapping[str, Any]) -> Iterator[Progress]:
        error, result = message.get("error"), _mapping(message.get("result"))
        if error is not None:
            yield from self._said()
            yield failure_told(_mapping(error), session_lost=method == "session/load")
        elif method in _SESSIONS:
            yield Progress(kind="session", session_id=text_of(result, "sessionId") or session_id or None)
        elif method == "session/prompt":
            yield from self._said()
            yield self._result(result)

    def _result(self, result: Mapping[str, Any]) -> Progress:
        """The CLI's word that it is done; one that has said nothing since its last tool call broke off."""
        reason = text_of(result, "stopReason")
        outcome, words = _STOPS.get(reason, "crashed"), self._last_words
        if outcome == "completed" and not words:
            outcome, words = "no_result", "it ended in the middle of its work, without a last word"
        elif outcome != "completed":
            words = f"it stopped ({reason}): {words}" if words else f"it stopped ({reason})"
        return Progress(kind="result", message=words, outcome=outcome, usage=_sum(result))


def failure_told(error: Mapping[str, Any], *, session_lost: bool = False) -> Progress:
    """An answer that is an error: its code, its words and what it says beside them name the outcome."""
    code, data = error.get("code"), _mapping(error.get("data"))
    message = _unwrapped(text_of(error, "message"))
    beside = [text_of(data, key) for key in ("message", "details", "errorName", "errorKind", "codexErrorInfo")]
    said = " ".join(dict.fromkeys(filter(None, [message, *beside])))
    outcome = failure_named(said)
    if code == -32000:
        outcome = "authentication"
    elif outcome is None and type(code) is int and 400 <= code < 600:
        outcome = failure_named(f"http {code}")
    if session_lost and outcome is None:
        said = f"{SESSION_LOST}: {said}"
    return Progress(kind="error", message=printable(said or f"error {code}"), outcome=outcome)


def _unwrapped(message: str) -> str:
    """The words of an error that a provider's whole answer in JSON stands for."""
    try:
        found = text_of(_mapping(json.loads(message)), "error", "message")
    except (ValueError, RecursionError):
        return message
    return found or message


def _sum(result: Mapping[str, Any]) -> Usage | None:
    """What the run used in all, as the answer to a prompt tells it in one way or another."""
    counts = _mapping(result.get("usage"))
    quota = _mapping(_mapping(result.get("_meta")).get("quota"))
    models = quota.get("model_usage")
    model = (
        text_of(models[0], "model") if isinstance(models, list) and models and isinstance(models[0], dict) else ""
    )
    if counts:
        return _usage(counts, model)
    told = _mapping(quota.get("token_count"))
    if not told:
        return None
    return Usage(
        model=model,
        input_tokens=count_of(told, "input_tokens") or count_of(told, "inputTokens"),
        output_tokens=count_of(told, "output_tokens") or count_of(told, "outputTokens"),
    )


def _usage(counts: Mapping[str, Any], model: str = "") -> Usage:
    """Some count cached tokens as part of the input and some beside it: the total tells which."""
    written, total = count_of(counts, "outputTokens"), count_of(counts, "totalTokens")
    cached = count_of(counts, "cachedReadTokens")
    read = max(count_of(counts, "inputTokens"), total - written)
    return Usage(model=model, input_tokens=read, cached_input_tokens=min(read, cached), output_tokens=written)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
