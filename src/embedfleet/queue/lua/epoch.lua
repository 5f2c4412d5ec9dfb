-- Name this memory of the stage: another name later means that something may have been forgotten.
--
-- KEYS[1] meta  HASH  counters, name
--
-- ARGV[1] proposal  the name if it has none yet
--
-- Returns the name, and the server's run: what is written to disk once a second loses its last second
-- when the server restarts or its replica takes over.
-- Keeps: the name lives and dies with the counters.

local name = redis.call('HGET', key.meta, 'epoch')
if not name then
  name = ARGV[1]
  redis.call('HSET', key.meta, 'epoch', name)
end
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
return {name, run}
