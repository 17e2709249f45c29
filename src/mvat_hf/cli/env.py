"""`mvat env`: what a bug report needs."""

import json


def env() -> int:
    """Commit, versions and machine, to go with a bug report."""
    from ..utils.records import environment

    print(json.dumps(environment(), indent=1))
    return 0
