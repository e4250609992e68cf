"""A program that talks to one coding CLI over the Agent Client Protocol, for a daemon that reads lines.

``python -m agent_daemon.acp -- PROGRAM ARGUMENTS`` starts the CLI, has it work on one prompt, and prints one JSON
object a line: what the CLI said and did, in the words of `agent_daemon.clis.base.Progress`, and between these its
own messages as they came. The daemon runs it as it runs any coding CLI. Asyncio and the protocol's library stay in
here: `order` is what it is asked for, `telling` what messages mean, `bridge` the conversation.
"""
