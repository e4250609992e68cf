"""Daemons of another version of the protocol: who is given work, who is made anew, and when a person is told."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import PROTOCOL_VERSION, ProtocolRange
from supervisor.core.speech import Speech, due

ranges = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda pair: ProtocolRange(min=pair[0], max=pair[1]))
OLD = Speech(found=ProtocolRange(min=0, max=PROTOCOL_VERSION - 1))


def test_an_older_one_is_made_anew_when_it_is_idle_and_if_that_does_not_help_a_person_is_told_once() -> None:
    assert not OLD.understood
    assert due(OLD, busy=True, chores=False, seconds_since_start=0) is None
    assert due(OLD, busy=False, chores=False, seconds_since_start=0) == "renew"
    renewed = replace(OLD, renewed=True)
    assert due(renewed, busy=False, chores=True, seconds_since_start=100) is None
    assert due(renewed, busy=False, chores=False, seconds_since_start=1) is None, "it may not have spoken yet"
    assert due(renewed, busy=False, chores=False, seconds_since_start=100) == "tell"
    assert due(replace(renewed, told=True), busy=False, chores=False, seconds_since_start=100) is None
    assert renewed.heard(ProtocolRange()) == Speech(found=ProtocolRange()), "with a current one all begins anew"


@given(st.lists(ranges, max_size=6))
def test_what_speaks_our_version_is_given_work_and_nothing_else(heard: list[ProtocolRange]) -> None:
    speech = Speech()
    assert speech.understood, "one that has not spoken yet"
    for found in heard:
        speech = speech.heard(found)
        assert speech.understood == (found.min <= PROTOCOL_VERSION <= found.max)
        assert not (speech.understood and due(speech, busy=False, chores=False, seconds_since_start=100))
