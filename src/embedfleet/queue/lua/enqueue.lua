-- Offer tasks, and ignore those whose id is known.
--
-- KEYS[1]  meta               HASH  counters, virtual times
-- KEYS[2]  ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3]  ready_costs        HASH  tenant -> tokens ready
-- KEYS[4]  shares             HASH  tenant -> stride
-- KEYS[5]  interactive        ZSET  eligible tenants by virtual start
-- KEYS[6]  bulk               ZSET  the same for the bulk lane
-- KEYS[7]  interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8]  bulk_debts         ZSET  the same for the bulk lane
-- KEYS[9]  tasks              HASH  id -> record
-- KEYS[10] payloads           HASH  id -> payload
-- KEYS[11] jobs               ZSET  job / id of what may be cancelled, ordered by bytes
--
-- ARGV[1]   layout of the caller
-- ARGV[2..] tasks  of each task: id, tenant, job, cost, priority, lane, alone (0 or 1),
--                payload; at most 1,000
--
-- Returns how many were new, and ''. If the caller's layout is older than that of the shard, nothing is
-- offered, and the layout of the shard comes in place of ''.
-- Keeps: enqueued = ready + leased + delayed + dead + done. Repeating it changes nothing.
-- No task is in two shards (shards.py).
-- Uses: _fair_queue.lua, _layout.lua, _tasks.lua

local FIELDS = 8
local new = 0

local agreed, held = agree_on(ARGV[1])
if not agreed then
  return {0, held}
end
local layouts = layouts_heard()

for i = 2, #ARGV, FIELDS do
  local id = ARGV[i]
  if redis.call('HEXISTS', key.tasks, id) == 0 then
    new = new + 1
    redis.call('HSET', key.payloads, id, ARGV[i + 7])
    admit({
      id = id, tenant = ARGV[i + 1], job = ARGV[i + 2], cost = tonumber(ARGV[i + 3]),
      priority = tonumber(ARGV[i + 4]), lane = ARGV[i + 5], alone = tonumber(ARGV[i + 6]),
      layout = layouts,
    })
  end
end
if new > 0 then
  redis.call('HINCRBY', key.meta, 'enqueued', new)
end
return {new, ''}
