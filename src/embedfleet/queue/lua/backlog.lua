-- Count one tenant's ready tasks, over both lanes.
--
-- KEYS[1] ready  ZSET  tasks in line, ordered by bytes
--
-- ARGV[1] tenant
--
-- Returns the count.
-- Keeps: nothing is changed.

local line = ARGV[1] .. '\255'
return redis.call('ZLEXCOUNT', key.ready, '[' .. line, '(' .. line .. '\255')
