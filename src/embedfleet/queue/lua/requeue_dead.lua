-- Make dead tasks ready again, as if offered now.
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
-- KEYS[12] dead               ZSET  id by order of death
--
-- ARGV[1..] task_ids  at most 1,000
--
-- Returns how many were dead.
-- Keeps: they queue in the order given, and their attempts are reset.
-- Uses: _fair_queue.lua, _layout.lua, _tasks.lua

local requeued = 0

begin_even_if_memory_is_full()
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', key.dead, id) == 1 then
    admit(load(id))
    requeued = requeued + 1
  end
end
return requeued
