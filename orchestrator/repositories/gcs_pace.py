"""Google's client asks through requests, which has no setting for how long a whole answer may take."""

from typing import Any

import requests
from requests.adapters import HTTPAdapter

from orchestrator.repositories.slow_answers import Pace, paced


class _PacedAdapter(HTTPAdapter):
    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = paced(self.poolmanager.pool_classes_by_scheme, self._pace)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **named)
        if not known:
            manager.pool_classes_by_scheme = paced(manager.pool_classes_by_scheme, self._pace)
        return manager


def pace_session(session: requests.Session, pace: Pace) -> None:
    """Let a session end answers that keep no pace; adapters that somebody put there for a reason are left alone."""
    for prefix, adapter in session.adapters.items():
        if type(adapter) is HTTPAdapter:
            session.adapters[prefix] = _PacedAdapter(pace)
