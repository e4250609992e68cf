"""GitHub's secondary limit as its documentation tells it: points a minute, contents made a minute and an hour."""

import re
from collections import deque
from dataclasses import dataclass, field

# What the documentation of an endpoint warns of: it notifies people, and making much is refused.
_CONTENT = re.compile(r"/(issues|comments|pulls|replies|reviews|requested_reviewers)$")
_MINUTE, _HOUR = 60, 3600


@dataclass
class SecondaryLimit:
    """A read is a point and a write five. `most` was seen in each window, and `refused` requests went too far."""

    points_a_minute: int = 900
    contents_a_minute: int = 80
    contents_an_hour: int = 500
    refused: int = 0
    most: dict[str, int] = field(default_factory=dict)
    _points: deque[tuple[float, int]] = field(default_factory=deque)
    _contents: deque[tuple[float, int]] = field(default_factory=deque)

    def retry_after(self, method: str, template: str, now: float) -> int:
        """The seconds after which a refused request may come again; 0 lets it through."""
        points = 1 if method == "GET" else 5
        content = int(method == "POST" and bool(_CONTENT.search(template)))
        windows = (
            ("points a minute", self._points, _MINUTE, points, self.points_a_minute),
            ("contents a minute", self._contents, _MINUTE, content, self.contents_a_minute),
            ("contents an hour", self._contents, _HOUR, content, self.contents_an_hour),
        )
        for name, seen, seconds, more, limit in windows:
            recent = [(at, count) for at, count in seen if at > now - seconds]
            total = sum(count for _, count in recent) + more
            if more and total > limit:
                self.refused += 1
                return max(1, round(recent[0][0] + seconds - now))
            self.most[name] = max(self.most.get(name, 0), total)
        self._points.append((now, points))
        self._contents.append((now, content))
        while self._points[0][0] <= now - _MINUTE:
            self._points.popleft()
        while self._contents[0][0] <= now - _HOUR:
            self._contents.popleft()
        return 0
