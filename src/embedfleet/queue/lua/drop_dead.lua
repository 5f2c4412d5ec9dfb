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

local dropped = 0

for _, id in ipairs(ARGV) do
  if redis.call('ZREM', key.dead, id) == 1 then
    redis.call('HDEL', key.tasks, id)
    redis.call('HDEL', key.payloads, id)
    dropped = dropped + 1
  end
end
if dropped > 0 then
  redis.call('HINCRBY', key.meta, 'done', dropped)
end
return dropped
