-- Try a write that changes nothing. The server refuses it when it takes no writes.
--
-- KEYS[1] ready  ZSET  tasks in line
--
-- Returns 1.
-- Keeps: nothing is changed, and nothing is sent to a replica or to the log on disk.

-- No task has an empty name, and XX adds none. But the command counts as one that needs memory, so a server
-- that is out of memory, has a full disk or became a replica refuses it, as it does `enqueue` and `claim`.
redis.call('ZADD', key.ready, 'XX', 0, '')
return 1
