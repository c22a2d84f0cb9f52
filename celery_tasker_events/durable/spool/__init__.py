"""The spool: a file on this host where durable events wait while Postgres can't take them."""
