-- Read how much of each tenant's work is ready, over both lanes, and the tenants' weights.
--
-- KEYS[1]  meta               HASH  counters, virtual times
-- KEYS[2]  ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3]  ready_costs        HASH  tenant -> tokens ready
-- KEYS[4]  shares             HASH  tenant -> stride
-- KEYS[5]  interactive        ZSET  eligible tenants by virtual start
-- KEYS[6]  bulk               ZSET  the same for the bulk lane
-- KEYS[7]  interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8]  bulk_debts         ZSET  the same for the bulk lane
--
-- ARGV[1..] tenants  at most 1,000
--
-- Returns the weight of all tenants with ready tasks, then of each tenant asked for: its ready tasks, their
-- tokens, its weight. The caller decides (room.py), because the products of these numbers exceed 2^53.
-- Keeps: nothing is changed; all numbers are of one instant.
-- Uses: _fair_queue.lua

local answer = {counter('ready_weight')}

for _, tenant in ipairs(ARGV) do
  local line = tenant .. SEPARATOR
  answer[#answer + 1] = redis.call('ZLEXCOUNT', key.ready, '[' .. line, '(' .. line .. SEPARATOR)
  answer[#answer + 1] = tonumber(redis.call('HGET', key.ready_costs, tenant) or 0)
  answer[#answer + 1] = weight_of(tenant)
end
return answer
