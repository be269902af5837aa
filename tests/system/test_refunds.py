"""P1, P2, I3 for refunds: lost messages, changes that their order does not show, a writer that dies in between.

Each test ends with an audit: refund by refund, platform = table = topic, and nothing ever went backwards.
"""

from __future__ import annotations

from collections import Counter
from signal import SIGKILL

import pytest

from schemas import cloud_events
from tests.support import systems
from tests.support.eventually import eventually
from tests.support.scenarios import Stage, Told
