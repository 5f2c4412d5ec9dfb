-- Count a stage's tasks and tokens.
--
-- KEYS[1] meta     HASH  counters
-- KEYS[2] ready    ZSET  tasks in line
-- KEYS[3] leases   ZSET  id by expiry
-- KEYS[4] delayed  ZSET  id by due time
-- KEYS[5] dead     ZSET  id by order of death
--
-- Returns ready, leased, delayed, dead, done, enqueued, then the tokens ready, leased, delayed.
-- Keeps: nothing is changed; all counts are of one instant.

local counts = redis.call('HMGET', key.meta, 'done', 'enqueued', 'ready_cost', 'leased_cost', 'delayed_cost')
local answer = {
  redis.call('ZCARD', key.ready),
  redis.call('ZCARD', key.leases),
  redis.call('ZCARD', key.delayed),
  redis.call('ZCARD', key.dead),
}
for _, count in ipairs(counts) do
  answer[#answer + 1] = tonumber(count or 0)
end
return answer
