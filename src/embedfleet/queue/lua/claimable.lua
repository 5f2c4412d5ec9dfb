-- Say whether a claim made now would find a task.
--
-- KEYS[1] interactive  ZSET  eligible tenants
-- KEYS[2] bulk         ZSET  eligible tenants
--
-- Returns 1 or 0.
-- Keeps: nothing is changed.

return redis.call('EXISTS', key.interactive, key.bulk) > 0 and 1 or 0
