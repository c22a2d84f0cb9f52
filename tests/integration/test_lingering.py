"""``tasker_events_linger_ms``: events that come one soon after the other share a commit."""

from __future__ import annotations

import time

import psycopg


def test_events_that_come_while_it_lingers_share_a_commit_and_none_is_left_at_the_end(publish_to, dsn):
    events = publish_to(dsn, linger_ms=1000)

    for number in range(21):
        events.publish("payment.processed", {"number": number}, namespace="payments")
        time.sleep(0.02)  # else they would share commits without it
    assert events.close()

    with psycopg.connect(dsn) as connection:
        query = "select count(*) from pgmq.q_payments_domain_events group by xmin order by min(msg_id)"
        commits = [count for (count,) in connection.execute(query)]
    assert sum(commits) == 21
    assert len(commits) < 10
