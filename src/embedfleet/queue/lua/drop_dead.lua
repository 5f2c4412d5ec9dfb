-- Forget dead tasks.
--
-- KEYS[1] meta      HASH  counters, virtual times
-- KEYS[2] tasks     HASH  id -> record
-- KEYS[3] payloads  HASH  id -> payload
-- KEYS[4] dead      ZSET  id by order of death
--
-- ARGV[1..] task_ids  at most 1,000
--
-- Returns how many were dead.
-- Keeps: the tasks count as done. Tasks that are not dead are left alone.
-- Uses: _layout.lua

local dropped = 0

for _, id in ipairs(ARGV) do
  if redis.call('ZREM', key.dead, id) == 1 then
    local record = cmsgpack.unpack(redis.call('HGET', key.tasks, id))
    forget_stray(record[15] or 0)
    redis.call('HDEL', key.tasks, id)
    redis.call('HDEL', key.payloads, id)
    dropped = dropped + 1
  end
end
if dropped > 0 then
  redis.call('HINCRBY', key.meta, 'done', dropped)
end
return dropped
