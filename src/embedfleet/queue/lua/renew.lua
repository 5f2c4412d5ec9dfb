-- Extend the leases that still hold.
--
-- KEYS[1] tasks   HASH  id -> record
-- KEYS[2] leases  ZSET  id by expiry
--
-- ARGV[1] now            seconds; '' for the server's clock
-- ARGV[2] lease_seconds
-- ARGV[3..] leases       of each lease: id, fence; at most 1,000
--
-- Returns when they expire now (seconds), then of each lease 1 if it holds, else 0.
-- Keeps: a lease has at most one holder. Repeating it extends the same leases once more.
-- Uses: _time.lua

local expires_at = exactly(seconds_now(ARGV[1]) + tonumber(ARGV[2]))
local answer = {expires_at}

local function holds(id, fence)
  local packed = redis.call('HGET', key.tasks, id)
  if not packed then
    return false
  end
  local record = cmsgpack.unpack(packed)
  return record[1] == 'leased' and record[9] == fence
end

for i = 3, #ARGV, 2 do
  local id, held = ARGV[i], holds(ARGV[i], tonumber(ARGV[i + 1]))
  if held then
    -- Removed first: when memory is full, Redis lets a script add only after a command that wrote.
    redis.call('ZREM', key.leases, id)
    redis.call('ZADD', key.leases, expires_at, id)
  end
  answer[#answer + 1] = held and 1 or 0
end
return answer
