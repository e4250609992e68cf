"""The conversation itself: starts the CLI, asks it one thing, answers what it asks, and stops it in order."""

import asyncio
import contextlib
import os
import signal
from asyncio import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from acp.connection import Connection, StreamDirection, StreamEvent
from acp.exceptions import RequestError
from acp.meta import AGENT_METHODS, CLIENT_METHODS, PROTOCOL_VERSION

from agent_daemon.acp.ledger import Ledger
from agent_daemon.acp.order import Order, choose, offered_modes
from agent_daemon.acp.telling import Telling
from agent_daemon.clis.base import Progress

Say = Callable[[Progress], None]
Show = Callable[[Mapping[str, Any]], None]

_LINE_BYTES = 16 * 1024 * 1024
# A CLI that does not even make a session in this time will not do so later.
_READY_SECONDS = 180.0
# It answers a cancelled prompt within a tenth of a second, and ends when its input ends: all but a few.
_CANCEL_SECONDS = 2.5
_LEAVE_SECONDS = 3.0
# Gemini CLI repeats what a session said before after it has answered that the session is there.
_QUIET_SECONDS = 0.5
_REPEATING_SECONDS = 20.0
_LEDGER_SECONDS = 0.25
_HURRIED_SECONDS = 0.5


class Bridge:
    """One conversation. `say` gets each event, `show` each message of the CLI as it came."""

    def __init__(self, order: Order, say: Say, show: Show) -> None:
        self._order = order
        self._say = say
        self._show = show
        self._telling = Telling(resumed=order.session_id is not None, tells_cost=order.ledger is None)
        self._session_id: str | None = None
        self._stop = asyncio.Event()
        self._heard_at = 0.0

    async def run(self, argv: Sequence[str]) -> int:
        """Have the order done by this program; returns 0 when the CLI said how its work ended."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        # In a session of its own, so that a signal to us is not one to it: it is to be asked first.
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._order.cwd,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        connection = Connection(self._answer, process.stdin, process.stdout, observers=[self._hear])  # type: ignore[arg-type]
        work = asyncio.create_task(self._work(connection))
        try:
            await self._wait_for(work, connection)
        finally:
            await self._leave(process, connection)
        return await self._outcome(work, process)

    async def _wait_for(self, work: "asyncio.Task[None]", connection: Connection) -> None:
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not work.done() and self._session_id is not None:
            with contextlib.suppress(ConnectionError, OSError):
                await connection.send_notification(
                    AGENT_METHODS["session_cancel"], {"sessionId": self._session_id}
                )
                await asyncio.wait({work}, timeout=_CANCEL_SECONDS)
        work.cancel()
        await asyncio.wait({work})

    async def _work(self, connection: Connection) -> None:
        async with asyncio.timeout(_READY_SECONDS):
            await self._make_session(connection)
        prompt = [{"type": "text", "text": self._order.prompt}]
        async with self._ledger_read():
            await connection.send_request(
                AGENT_METHODS["session_prompt"], {"sessionId": self._session_id, "prompt": prompt}
            )

    @contextlib.asynccontextmanager
    async def _ledger_read(self) -> AsyncIterator[None]:
        """Tell what the CLI sums up, while it works and once afterwards."""
        if self._order.ledger is None or self._session_id is None:
            yield
            return
        ledger = Ledger(Path(self._order.ledger), self._session_id)

        def look() -> None:
            usage = ledger.step()
            if usage is not None:
                self._say(Progress(kind="usage", usage=usage))

        async def watch() -> None:
            while True:
                await asyncio.sleep(_LEDGER_SECONDS)
                look()

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            look()

    async def _make_session(self, connection: Connection) -> None:
        own = {"name": "cloud-code", "title": "Cloud Code", "version": version("cloud-code")}
        can = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
        begin = {"protocolVersion": PROTOCOL_VERSION, "clientCapabilities": can, "clientInfo": own}
        await connection.send_request(AGENT_METHODS["initialize"], begin)
        place: dict[str, Any] = {"cwd": self._order.cwd, "mcpServers": list(self._order.mcp_servers)}
        session_id = self._order.session_id
        if session_id is None:
            made = await connection.send_request(AGENT_METHODS["session_new"], place) or {}
            session_id = str(made.get("sessionId", ""))
        else:
            made = await connection.send_request(AGENT_METHODS["session_load"], place | {"sessionId": session_id})
            await self._quiet()
        if self._order.mode in offered_modes(made or {}):
            wish = {"sessionId": session_id, "modeId": self._order.mode}
            with contextlib.suppress(RequestError):  # then it asks, and is answered
                await connection.send_request(AGENT_METHODS["session_set_mode"], wish)
        self._session_id = session_id

    async def _quiet(self) -> None:
        """Let it repeat what was said, before anything new is asked."""
        now = asyncio.get_running_loop().time
        begun = now()
        while now() - self._heard_at < _QUIET_SECONDS and now() - begun < _REPEATING_SECONDS:
            await asyncio.sleep(_QUIET_SECONDS / 5)

    async def _answer(self, method: str, params: Any, is_notification: bool) -> dict[str, Any] | None:
        """What the CLI asks us; it reads, writes and runs things itself."""
        if method == CLIENT_METHODS["session_request_permission"]:
            return choose(self._order, params if isinstance(params, dict) else {})
        if is_notification:
            return None
        raise RequestError.method_not_found(method)

    def _hear(self, event: StreamEvent) -> None:
        if event.direction is StreamDirection.OUTGOING:
            told = self._telling.sent(event.message)
        elif isinstance(event.message, dict):
            self._heard_at = asyncio.get_running_loop().time()
            self._show(event.message)
            told = self._telling.received(event.message)
        else:
            return
        for one in told:
            self._say(one)
            if one.outcome == "hung":  # it goes round in circles
                self._stop.set()

    async def _leave(self, process: subprocess.Process, connection: Connection) -> None:
        """End the CLI: its input ends, then it is asked; what is left after us the daemon sweeps up."""
        with contextlib.suppress(ConnectionError, OSError):
            await connection.close()
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            wait_seconds = _HURRIED_SECONDS if self._stop.is_set() else _LEAVE_SECONDS
            await asyncio.wait_for(process.wait(), wait_seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)

    async def _outcome(self, work: "asyncio.Task[None]", process: subprocess.Process) -> int:
        if work.cancelled():
            return 1
        error = work.exception()
        if error is None:
            return 0
        if isinstance(error, RequestError):  # told when it came
            return 1
        if isinstance(error, TimeoutError):
            why = f"it made no session within {_READY_SECONDS:g} seconds"
        else:
            code = process.returncode
            why = f"it ended without an answer, with exit code {code}" if code is not None else f"{error}"
        for one in self._telling.closed(why):
            self._say(one)
        return 1
