-- Name the present memory of the stage. A different name later means that tasks may have been lost.
--
-- KEYS[1] meta  HASH  counters, name
--
-- ARGV[1] proposal  the name, if the stage has none yet
--
-- Returns the name, and the id of the server's run. The run is part of the epoch because a server that writes
-- to disk once a second loses the last second, but not the name, when it restarts or its replica takes over.
-- Keeps: the name is lost exactly when the counters are lost.

local name = redis.call('HGET', key.meta, 'epoch')
if not name then
  name = ARGV[1]
  redis.call('HSET', key.meta, 'epoch', name)
end
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
return {name, run}
