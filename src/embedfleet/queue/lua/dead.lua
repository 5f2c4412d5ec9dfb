-- List dead letters, oldest first.
--
-- KEYS[1] tasks     HASH  id -> record
-- KEYS[2] payloads  HASH  id -> payload
-- KEYS[3] dead      ZSET  id by order of death
--
-- ARGV[1] after  order of death of the last one seen; 0 to begin
-- ARGV[2] limit  1 to 1,000
--
-- Returns of each: id, order of death, record, payload.
-- Keeps: nothing is changed.

local found = redis.call('ZRANGEBYSCORE', key.dead, '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local answer = {}
for i = 1, #found, 2 do
  local id = found[i]
  answer[#answer + 1] = id
  answer[#answer + 1] = found[i + 1]
  answer[#answer + 1] = redis.call('HGET', key.tasks, id)
  answer[#answer + 1] = redis.call('HGET', key.payloads, id)
end
return answer
