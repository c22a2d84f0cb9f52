"""Every SQL statement about dead letters, with why it is as it is.

PGMQ's public functions where there are any. They only read a message by taking it, which hides it from others for a while:
whoever just looks selects from the queue's own table, whose name comes in as an identifier.
"""

from __future__ import annotations

from psycopg.sql import SQL

__all__ = ["COUNT", "DELETE", "DELETE_ALL", "IDS", "LETTER", "OUTLINES"]

# A letter's texts may be large, and there may be a million letters: a list has neither more texts than it shows nor more
# letters. The primary key gives a page without a look at those before it. A message may be anything, if somebody else sent it.
OUTLINES = SQL("""
select msg_id, enqueued_at,
       case when jsonb_typeof(message) = 'object'
            then message - array['message_text', 'headers_text', 'payload_text', 'outcome_text']
            else '{{}}' end
from {table}
where msg_id > %(after)s
  and (%(event)s::text is null or message->>'event_name' ~ %(event)s)
  and (%(older_than)s::interval is null or enqueued_at < now() - %(older_than)s)
order by msg_id
limit %(limit)s
""")

LETTER = SQL("""
select msg_id, enqueued_at, case when jsonb_typeof(message) = 'object' then message else '{{}}' end
from {table}
where msg_id = %(msg_id)s
""")

COUNT = SQL("""
select count(*)
from {table}
where (%(event)s::text is null or message->>'event_name' ~ %(event)s)
  and (%(older_than)s::interval is null or enqueued_at < now() - %(older_than)s)
""")

IDS = SQL("""
select msg_id
from {table}
where msg_id > %(after)s
  and (%(event)s::text is null or message->>'event_name' ~ %(event)s)
  and (%(older_than)s::interval is null or enqueued_at < now() - %(older_than)s)
order by msg_id
limit %(limit)s
""")

# It waits for whoever deletes the same letter at the same time, and says false if that one was quicker. So who gets true
# may send the event, and nobody else does.
DELETE = "select pgmq.delete(%s::text, %s::bigint)"

DELETE_ALL = "select count(*) from pgmq.delete(%s::text, %s::bigint[])"
