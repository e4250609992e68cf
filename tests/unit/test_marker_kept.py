"""What a comment is found again by is never changed by what hides secrets."""

from typing import Any

import pytest

from supervisor.core.record import Post
from supervisor.core.story import marker
from supervisor.git.bundle import Rejected
from supervisor.jobs.project import Project
from supervisor.jobs.telling import say_reply
from supervisor.outgoing import Outgoing


class Forge:
    """One that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def find_comment(self, _place: object, first: str) -> str | None:
        return next((said for said in self.said if said.partition("\n")[0] == first), None)

    def post_comment(self, _place: object, body: str) -> str:
        self.said.append(body)
        return body


@pytest.mark.parametrize("project", ["portal", "other"])
def test_a_secret_that_is_a_part_of_it_holds_the_comment_and_one_in_the_text_is_hidden(project: str) -> None:
    out, forge = Outgoing(lambda: {"deploy/key": "customer-portal"}), Forge()
    kept: Any = {"settings": None, "host": None, "mirror": None}
    where = Project(**kept, forge=forge, hide=out.hide, scan=out.scan)  # type: ignore[arg-type]
    post = Post(key="reply-1", kind="comment", number=7, text="of the customer-portal", sending=True)
    if project == "portal":
        with pytest.raises(Rejected):
            say_reply(where, "customer-portal", post, "root")
        assert not forge.said
    else:
        assert [say_reply(where, "other", post, "root") for _ in range(2)] == [forge.said[0]] * 2
        assert forge.said == [f"{marker('root', 'other', 'reply-1')}\nof the [hidden]"]
